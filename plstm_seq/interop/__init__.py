"""Reading what others wrote: published configurations and parameters."""
