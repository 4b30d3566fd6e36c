"""What every other package stands on: errors, keys, seeds, files, locks, memory, units."""
