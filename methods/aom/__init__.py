"""AOM: anchor-guided one-step linear movement."""
