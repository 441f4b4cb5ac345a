//go:build !amd64

package kernel

// What this processor has no code for and dispatching never calls.

func adamW512(w []float32, g []float32, m []float32, v []float32, step float32, beta1 float32, beta2 float32, eps float32, keep float32, root float32) {
	panic("kernel: unreachable")
}
func adamW256(w []float32, g []float32, m []float32, v []float32, step float32, beta1 float32, beta2 float32, eps float32, keep float32, root float32) {
	panic("kernel: unreachable")
}
