"""What every room uses: errors, the values that describe engines and work, what is written down, files."""
