"""What PyTorch itself offers against memory, beside Remora, on the same model and machine."""
