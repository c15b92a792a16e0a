"""Generated from proto/deltaplane/v1 by tools/generate-proto."""
