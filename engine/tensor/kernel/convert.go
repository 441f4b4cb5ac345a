package kernel

import "math"

// BF16ToF32 widens len(dst) bfloat16 values; exact.
func BF16ToF32(dst []float32, src []uint16) {
	src = src[:len(dst)]
	switch {
	case useAVX512:
		fromBFloat512(dst, src)
	case useAVX2:
		fromBFloat256(dst, src)
	default:
		bf16ToF32Go(dst, src)
	}
}

// F16ToF32 widens len(dst) half-precision values; exact.
func F16ToF32(dst []float32, src []uint16) {
	src = src[:len(dst)]
	switch {
	case useAVX512:
		fromHalf512(dst, src)
	case useAVX2:
		fromHalf256(dst, src)
	default:
		f16ToF32Go(dst, src)
	}
}

// F32ToBF16 rounds len(dst) values to bfloat16, to nearest, ties to even; NaN
// stays NaN.
func F32ToBF16(dst []uint16, src []float32) {
	src = src[:len(dst)]
	switch {
	case useAVX512:
		toBFloat512(dst, src)
	case useAVX2:
		toBFloat256(dst, src)
	default:
		f32ToBF16Go(dst, src)
	}
}

// F32ToF16 rounds len(dst) values to half precision, to nearest, ties to even;
// what is too large becomes an infinity, NaN stays NaN.
func F32ToF16(dst []uint16, src []float32) {
	src = src[:len(dst)]
	switch {
	case useAVX512:
		toHalf512(dst, src)
	case useAVX2:
		toHalf256(dst, src)
	default:
		f32ToF16Go(dst, src)
	}
}

func bf16ToF32Go(dst []float32, src []uint16) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(src[i]) << 16)
	}
}

func f16ToF32Go(dst []float32, src []uint16) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = halfToFloat(src[i])
	}
}

func f32ToBF16Go(dst []uint16, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		b := math.Float32bits(src[i])
		if b&0x7fffffff > 0x7f800000 {
			dst[i] = uint16(b>>16) | 0x40
			continue
		}
		dst[i] = uint16((b + 0x7fff + b>>16&1) >> 16)
	}
}

func f32ToF16Go(dst []uint16, src []float32) {
	src = src[:len(dst)]
	for i := range dst {
		dst[i] = floatToHalf(src[i])
	}
}

// halfToFloat shifts the exponent and fraction into place and corrects the
// exponent's offset by a multiplication, which also normalizes subnormal values.
func halfToFloat(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	if h&0x7c00 == 0x7c00 {
		b := uint32(h&0x7fff)<<13 | 0x7f800000
		if h&0x3ff != 0 {
			b |= 1 << 22
		}
		return math.Float32frombits(sign | b)
	}
	f := math.Float32frombits(uint32(h&0x7fff)<<13) * 0x1p112
	return math.Float32frombits(sign | math.Float32bits(f))
}

func floatToHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13&0x3ff)
	case b >= 0x47800000: // 65536 and up
		return sign | 0x7c00
	case b < 0x38800000: // below the smallest normal: let addition round at 2⁻²⁴
		return sign | uint16(math.Float32bits(math.Float32frombits(b)+0.5)-0x3f000000)
	}
	b += 0xfff + b>>13&1
	return sign | uint16((b-112<<23)>>13)
}
