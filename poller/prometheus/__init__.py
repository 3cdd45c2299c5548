"""What Prometheus can be asked, and what its answers are."""
