"""Public and customer formats written into a landing zone, one file each."""
