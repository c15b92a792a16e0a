//go:build tools

// Package tools pins the Jaeger that the trace test asks.
package tools

import _ "github.com/jaegertracing/jaeger/cmd/all-in-one"
