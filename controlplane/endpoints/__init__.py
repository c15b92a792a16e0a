"""The endpoints controllers: EndpointSlices and Endpoints made of Services and Pods (`--controllers`)."""
