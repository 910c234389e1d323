"""What a run leaves on disk, and from there to statistics and pages."""
