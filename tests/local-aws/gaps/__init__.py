"""What AWS does and ministack does not, one module for each area. See README.md for the list."""
