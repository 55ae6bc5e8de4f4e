"""HTML, PNG, Perfetto and terminal views of schedules and their runs."""
