//go:build !amd64

package kernel

// What this processor has no code for and dispatching never calls.

func dotThree512(x []float32, y []float32, z []float32) float32         { panic("kernel: unreachable") }
func rmsApply512(dst []float32, x []float32, w []float32, rstd float32) { panic("kernel: unreachable") }
func rmsGrad512(dx []float32, dy []float32, x []float32, w []float32, rstd float32, c float32) {
	panic("kernel: unreachable")
}
func rmsGradW512(dx []float32, dw []float32, dy []float32, x []float32, w []float32, rstd float32, c float32) {
	panic("kernel: unreachable")
}
func squaredDistance512(x []float32, mean float32) float32 { panic("kernel: unreachable") }
func layerApply512(dst []float32, x []float32, w []float32, mean float32, rstd float32) {
	panic("kernel: unreachable")
}
func layerSums512(dy []float32, x []float32, w []float32, mean float32, rstd float32) (sg float32, sh float32) {
	panic("kernel: unreachable")
}
func layerGrad512(dx []float32, dy []float32, x []float32, w []float32, mean float32, rstd float32, cg float32, ch float32) {
	panic("kernel: unreachable")
}
func layerGradW512(dx []float32, dw []float32, dy []float32, x []float32, w []float32, mean float32, rstd float32, cg float32, ch float32) {
	panic("kernel: unreachable")
}
func rope512(a []float32, b []float32, cos []float32, sin []float32)    { panic("kernel: unreachable") }
func dotThree256(x []float32, y []float32, z []float32) float32         { panic("kernel: unreachable") }
func rmsApply256(dst []float32, x []float32, w []float32, rstd float32) { panic("kernel: unreachable") }
func rmsGrad256(dx []float32, dy []float32, x []float32, w []float32, rstd float32, c float32) {
	panic("kernel: unreachable")
}
func rmsGradW256(dx []float32, dw []float32, dy []float32, x []float32, w []float32, rstd float32, c float32) {
	panic("kernel: unreachable")
}
func squaredDistance256(x []float32, mean float32) float32 { panic("kernel: unreachable") }
func layerApply256(dst []float32, x []float32, w []float32, mean float32, rstd float32) {
	panic("kernel: unreachable")
}
func layerSums256(dy []float32, x []float32, w []float32, mean float32, rstd float32) (sg float32, sh float32) {
	panic("kernel: unreachable")
}
func layerGrad256(dx []float32, dy []float32, x []float32, w []float32, mean float32, rstd float32, cg float32, ch float32) {
	panic("kernel: unreachable")
}
func layerGradW256(dx []float32, dw []float32, dy []float32, x []float32, w []float32, mean float32, rstd float32, cg float32, ch float32) {
	panic("kernel: unreachable")
}
func rope256(a []float32, b []float32, cos []float32, sin []float32) { panic("kernel: unreachable") }
