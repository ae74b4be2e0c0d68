"""The test kit of the publisher: a network in memory, and a harness whose loops tests run step by step."""
