//go:build !amd64

package kernel

// What this processor has no code for and dispatching never calls.

func fromBFloat512(dst []float32, src []uint16) { panic("kernel: unreachable") }
func fromHalf512(dst []float32, src []uint16)   { panic("kernel: unreachable") }
func toBFloat512(dst []uint16, src []float32)   { panic("kernel: unreachable") }
func toHalf512(dst []uint16, src []float32)     { panic("kernel: unreachable") }
func fromBFloat256(dst []float32, src []uint16) { panic("kernel: unreachable") }
func fromHalf256(dst []float32, src []uint16)   { panic("kernel: unreachable") }
func toBFloat256(dst []uint16, src []float32)   { panic("kernel: unreachable") }
func toHalf256(dst []uint16, src []float32)     { panic("kernel: unreachable") }
