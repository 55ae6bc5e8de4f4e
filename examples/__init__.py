"""Small programs that use Remora; each runs in the tests."""
