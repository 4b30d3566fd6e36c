"""What can be plugged in: the registry, and what a method declares that it reads."""
