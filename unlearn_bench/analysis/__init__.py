"""What the numbers say: intervals, estimates, the table, the verdict. Free of torch and HTML."""
