package checkpoint

import (
	"encoding/binary"
	"math"
)

// The block kinds of 32 weights. The products are rounded to f32 one by one, as the
// reference does; the conversions float32(…) keep a compiler from fusing them.

// half widens an f16 bit pattern.
func half(b []byte) float32 {
	h := uint32(binary.LittleEndian.Uint16(b))
	sign := h & 0x8000 << 16
	if h&0x7c00 == 0x7c00 { // Inf and NaN
		return math.Float32frombits(sign | 0x7f800000 | h&0x3ff<<13)
	}
	const rebias = 0x1p112 // f32's exponents begin 112 below f16's; exact for subnormal ones too
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(h&0x7fff<<13)*rebias))
}

// decodeQ4_0: d f16, 16 bytes of codes. w = d·(q − 8); the low halves of the bytes are
// weights 0 to 15, the high ones 16 to 31.
func decodeQ4_0(dst []float32, src []byte) {
	for ; len(src) >= 18; src, dst = src[18:], dst[32:] {
		d, q, y := half(src), (*[16]byte)(src[2:]), (*[32]float32)(dst)
		for j, b := range q {
			y[j] = d * float32(int32(b&15)-8)
			y[j+16] = d * float32(int32(b>>4)-8)
		}
	}
}

// decodeQ4_1: d, m f16, 16 bytes of codes. w = d·q + m.
func decodeQ4_1(dst []float32, src []byte) {
	for ; len(src) >= 20; src, dst = src[20:], dst[32:] {
		d, m, q, y := half(src), half(src[2:]), (*[16]byte)(src[4:]), (*[32]float32)(dst)
		for j, b := range q {
			y[j] = float32(d*float32(int32(b&15))) + m
			y[j+16] = float32(d*float32(int32(b>>4))) + m
		}
	}
}

// decodeQ5_0: d f16, the codes' fifth bits as u32, 16 bytes of the other four.
// w = d·(q − 16).
func decodeQ5_0(dst []float32, src []byte) {
	for ; len(src) >= 22; src, dst = src[22:], dst[32:] {
		d, high, q, y := half(src), binary.LittleEndian.Uint32(src[2:]), (*[16]byte)(src[6:]), (*[32]float32)(dst)
		for j, b := range q {
			lo := uint32(b&15) | high>>j<<4&16
			hi := uint32(b>>4) | high>>(j+16)<<4&16
			y[j] = d * float32(int32(lo)-16)
			y[j+16] = d * float32(int32(hi)-16)
		}
	}
}

// decodeQ5_1: d, m f16, then as Q5_0. w = d·q + m.
func decodeQ5_1(dst []float32, src []byte) {
	for ; len(src) >= 24; src, dst = src[24:], dst[32:] {
		d, m := half(src), half(src[2:])
		high, q, y := binary.LittleEndian.Uint32(src[4:]), (*[16]byte)(src[8:]), (*[32]float32)(dst)
		for j, b := range q {
			lo := uint32(b&15) | high>>j<<4&16
			hi := uint32(b>>4) | high>>(j+16)<<4&16
			y[j] = float32(d*float32(int32(lo))) + m
			y[j+16] = float32(d*float32(int32(hi))) + m
		}
	}
}

// decodeQ8_0: d f16, 32 signed bytes. w = d·q.
func decodeQ8_0(dst []float32, src []byte) {
	for ; len(src) >= 34; src, dst = src[34:], dst[32:] {
		d, q, y := half(src), (*[32]byte)(src[2:]), (*[32]float32)(dst)
		for j, b := range q {
			y[j] = d * float32(int8(b))
		}
	}
}
