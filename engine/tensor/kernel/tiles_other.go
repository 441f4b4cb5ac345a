//go:build !amd64

package kernel

// shape returns the micro-kernels of the code path in use.
func shape(bool) *tileShape { return shapeGo }

func pairRows(dst, low, high []float32) { panic("kernel: unreachable") }
