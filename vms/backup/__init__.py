"""A guest's disks and configuration in one file that ordinary tools read, and the way back."""
