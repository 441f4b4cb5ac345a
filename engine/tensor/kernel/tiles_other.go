//go:build !amd64

package kernel

// shape returns the micro-kernels of the code path in use.
func shape() *tileShape { return shapeGo }
