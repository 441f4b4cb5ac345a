//go:build !amd64

package kernel

// What this processor has no code for and dispatching never calls.

func exp512(dst []float32, x []float32)                           { panic("kernel: unreachable") }
func expSum512(dst []float32, x []float32, shift float32) float32 { panic("kernel: unreachable") }
func attentionGrad512(ds []float32, p []float32, delta float32, scale float32) {
	panic("kernel: unreachable")
}
func sigmoid512(dst []float32, x []float32)                       { panic("kernel: unreachable") }
func tanh512(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func relu512(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func silu512(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func gelu512(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func geluTanh512(dst []float32, x []float32)                      { panic("kernel: unreachable") }
func siluMul512(dst []float32, gate []float32, up []float32)      { panic("kernel: unreachable") }
func sigmoidBackward512(dx []float32, dy []float32, y []float32)  { panic("kernel: unreachable") }
func tanhBackward512(dx []float32, dy []float32, y []float32)     { panic("kernel: unreachable") }
func reluBackward512(dx []float32, dy []float32, x []float32)     { panic("kernel: unreachable") }
func siluBackward512(dx []float32, dy []float32, x []float32)     { panic("kernel: unreachable") }
func geluBackward512(dx []float32, dy []float32, x []float32)     { panic("kernel: unreachable") }
func geluTanhBackward512(dx []float32, dy []float32, x []float32) { panic("kernel: unreachable") }
func siluMulBackward512(dgate []float32, dup []float32, dy []float32, gate []float32, up []float32) {
	panic("kernel: unreachable")
}
func exp256(dst []float32, x []float32)                           { panic("kernel: unreachable") }
func expSum256(dst []float32, x []float32, shift float32) float32 { panic("kernel: unreachable") }
func attentionGrad256(ds []float32, p []float32, delta float32, scale float32) {
	panic("kernel: unreachable")
}
func sigmoid256(dst []float32, x []float32)                       { panic("kernel: unreachable") }
func tanh256(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func relu256(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func silu256(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func gelu256(dst []float32, x []float32)                          { panic("kernel: unreachable") }
func geluTanh256(dst []float32, x []float32)                      { panic("kernel: unreachable") }
func siluMul256(dst []float32, gate []float32, up []float32)      { panic("kernel: unreachable") }
func sigmoidBackward256(dx []float32, dy []float32, y []float32)  { panic("kernel: unreachable") }
func tanhBackward256(dx []float32, dy []float32, y []float32)     { panic("kernel: unreachable") }
func reluBackward256(dx []float32, dy []float32, x []float32)     { panic("kernel: unreachable") }
func siluBackward256(dx []float32, dy []float32, x []float32)     { panic("kernel: unreachable") }
func geluBackward256(dx []float32, dy []float32, x []float32)     { panic("kernel: unreachable") }
func geluTanhBackward256(dx []float32, dy []float32, x []float32) { panic("kernel: unreachable") }
func siluMulBackward256(dgate []float32, dup []float32, dy []float32, gate []float32, up []float32) {
	panic("kernel: unreachable")
}
