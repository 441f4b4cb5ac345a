//go:build !amd64

package kernel

// What this processor has no code for and dispatching never calls.

func dot512(x []float32, y []float32) float32           { panic("kernel: unreachable") }
func sum512(x []float32) float32                        { panic("kernel: unreachable") }
func sumSquares512(x []float32) float32                 { panic("kernel: unreachable") }
func max512(x []float32) float32                        { panic("kernel: unreachable") }
func absMax512(x []float32) float32                     { panic("kernel: unreachable") }
func axpy512(alpha float32, x []float32, y []float32)   { panic("kernel: unreachable") }
func scale512(alpha float32, x []float32)               { panic("kernel: unreachable") }
func add512(dst []float32, x []float32, y []float32)    { panic("kernel: unreachable") }
func sub512(dst []float32, x []float32, y []float32)    { panic("kernel: unreachable") }
func mul512(dst []float32, x []float32, y []float32)    { panic("kernel: unreachable") }
func mulAdd512(dst []float32, x []float32, y []float32) { panic("kernel: unreachable") }
func dot256(x []float32, y []float32) float32           { panic("kernel: unreachable") }
func sum256(x []float32) float32                        { panic("kernel: unreachable") }
func sumSquares256(x []float32) float32                 { panic("kernel: unreachable") }
func max256(x []float32) float32                        { panic("kernel: unreachable") }
func absMax256(x []float32) float32                     { panic("kernel: unreachable") }
func axpy256(alpha float32, x []float32, y []float32)   { panic("kernel: unreachable") }
func scale256(alpha float32, x []float32)               { panic("kernel: unreachable") }
func add256(dst []float32, x []float32, y []float32)    { panic("kernel: unreachable") }
func sub256(dst []float32, x []float32, y []float32)    { panic("kernel: unreachable") }
func mul256(dst []float32, x []float32, y []float32)    { panic("kernel: unreachable") }
func mulAdd256(dst []float32, x []float32, y []float32) { panic("kernel: unreachable") }
