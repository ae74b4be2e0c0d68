"""One module for each network, all with the form of `connector.Connector`."""
