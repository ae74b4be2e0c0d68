"""The test kit: a clock moved by hand, a broker in memory, real servers, and waiting by condition."""
