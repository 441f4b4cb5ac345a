//go:build !amd64

package kernel

func dots(y, x []float32, ldx int, b *Operand, at, k int) { panic("kernel: unreachable") }

func dotsQ4(y, x []float32, ldx int, codes []byte, scales []uint16, zeros []uint8, blocks, perGroup int) {
	panic("kernel: unreachable")
}

func rowTile(c []float32, ldc, n int, x []float32, ldx, rows int, b *Operand, at, k int) {
	panic("kernel: unreachable")
}

func unpack(dst []float32, codes []byte, scale float32, zero int32, blocks int) {
	panic("kernel: unreachable")
}

func packQ4(codes []byte, w []float32, scale float32, zero int32) bool { return false }
