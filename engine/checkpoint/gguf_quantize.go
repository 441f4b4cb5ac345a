package checkpoint

import (
	"encoding/binary"
	"math"

	"tare/engine/tensor/kernel"
)

// The quantizers take the roundings of the reference one by one, so that the bytes are
// the same: f32 throughout, the scale stored as f16, the codes from the f32 scale.

// encodeQ8_0: d = max|w|/127, q = round(w/d), halves away from zero.
func encodeQ8_0(dst []byte, src []float32) {
	for ; len(src) >= 32; src, dst = src[32:], dst[34:] {
		x := src[:32]
		var most float32
		for _, v := range x {
			most = max(most, float32(math.Abs(float64(v))))
		}
		d := most / 127
		inverse := reciprocal(d)
		putHalf(dst, d)
		for j, v := range x {
			r := float64(v * inverse)
			dst[2+j] = byte(int8(max(-127, min(127, r+math.Copysign(0.5, r))))) // exact in f64, then cut
		}
	}
}

// encodeQ4_0: d = m/−8 for the entry m that is largest in size, so that m is the code 0
// exactly; q = ⌊w/d + 8.5⌋, at most 15.
func encodeQ4_0(dst []byte, src []float32) {
	for ; len(src) >= 32; src, dst = src[32:], dst[18:] {
		x := src[:32]
		var most, m float32
		for _, v := range x {
			if a := float32(math.Abs(float64(v))); a > most {
				most, m = a, v
			}
		}
		d := m / -8
		inverse := reciprocal(d)
		putHalf(dst, d)
		code := func(v float32) byte {
			return byte(max(0, min(15, float32(v*inverse)+8.5)))
		}
		for j := range 16 {
			dst[2+j] = code(x[j]) | code(x[j+16])<<4
		}
	}
}

// reciprocal is 1/d, and 0 where d or its reciprocal has none.
func reciprocal(d float32) float32 {
	if r := 1 / d; d != 0 && !math.IsInf(float64(r), 0) {
		return r
	}
	return 0
}

func putHalf(dst []byte, v float32) {
	var h [1]uint16
	kernel.F32ToF16(h[:], []float32{v})
	binary.LittleEndian.PutUint16(dst, h[0])
}
