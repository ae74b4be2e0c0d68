"""What tests of the publisher stand on: a network in memory, and a publisher whose loops are turned by hand."""
