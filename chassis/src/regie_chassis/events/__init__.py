"""Events between services: staged, relayed, carried, consumed and set aside."""
