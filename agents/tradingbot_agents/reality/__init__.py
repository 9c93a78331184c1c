"""The audit: is what the system believes so? Evidence from where the truth is, judged by small pure checks."""
