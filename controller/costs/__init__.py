"""What is done for a guest costs the host something: CPU time, steps of a call, descriptors. Here it is counted and
bounded, for each box, and nothing here knows what it is spent on."""
