package checkpoint

// The K kinds: blocks of 256 weights in sub-blocks of 16 or 32, whose scales are small
// integers themselves under one f16 scale.
const superBlock = 256

// decodeQ2_K: 16 bytes (scale low, minimum high half), 64 bytes of codes, d, dmin f16.
// w = d·scale·q − dmin·min in sub-blocks of 16. A byte of codes holds weights that are
// 32 apart, lowest bits first.
func decodeQ2_K(dst []float32, src []byte) {
	for ; len(src) >= 84; src, dst = src[84:], dst[superBlock:] {
		scales, codes := src[:16], src[16:80]
		d, dmin := half(src[80:]), half(src[82:])
		for sub, s := range scales {
			scale, least := d*float32(s&15), dmin*float32(s>>4)
			q, shift := codes[sub>>3*32+sub&1*16:][:16], sub>>1&3*2
			y := dst[sub*16:][:16]
			for i, b := range q {
				y[i] = float32(scale*float32(b>>shift&3)) - least
			}
		}
	}
}

// decodeQ3_K: 32 bytes of third bits, 64 bytes of the other two, 12 bytes of scales in
// 6 bits, d f16. w = d·(scale − 32)·(q − 4) in sub-blocks of 16.
func decodeQ3_K(dst []float32, src []byte) {
	for ; len(src) >= 110; src, dst = src[110:], dst[superBlock:] {
		high, codes, packed, d := src[:32], src[32:96], src[96:108], half(src[108:])
		for sub := range 16 {
			low := packed[sub&7] >> (sub >> 3 * 4) & 15
			scale := int32(low|packed[8+sub&3]>>(sub>>2*2)&3<<4) - 32
			dl := d * float32(scale)
			q, h := codes[sub>>3*32+sub&1*16:][:16], high[sub&1*16:][:16]
			shift, bit := sub>>1&3*2, sub>>1
			y := dst[sub*16:][:16]
			for i, b := range q {
				y[i] = dl * float32(int32(b>>shift&3|h[i]>>bit&1<<2)-4)
			}
		}
	}
}

// scaleAndMin returns the two 6-bit numbers of sub-block i from the 12 bytes in which
// Q4_K and Q5_K pack eight of each.
func scaleAndMin(p []byte, i int) (scale, least byte) {
	if i < 4 {
		return p[i] & 63, p[i+4] & 63
	}
	return p[i+4]&15 | p[i-4]>>6<<4, p[i+4]>>4 | p[i]>>6<<4
}

// decodeQ4_K: d, dmin f16, 12 bytes of scales and minima, 128 bytes of codes.
// w = d·scale·q − dmin·min in sub-blocks of 32; the halves of 32 bytes are two of them.
func decodeQ4_K(dst []float32, src []byte) {
	for ; len(src) >= 144; src, dst = src[144:], dst[superBlock:] {
		d, dmin, packed, codes := half(src), half(src[2:]), src[4:16], src[16:144]
		for sub := range 8 {
			s, m := scaleAndMin(packed, sub)
			scale, least := d*float32(s), dmin*float32(m)
			q, shift := (*[32]byte)(codes[sub>>1*32:]), sub&1*4
			y := (*[32]float32)(dst[sub*32:])
			for i, b := range q {
				y[i] = float32(scale*float32(int32(b>>shift&15))) - least
			}
		}
	}
}

// decodeQ5_K: as Q4_K with 32 bytes of fifth bits before the codes; bit i of each byte
// belongs to sub-block i.
func decodeQ5_K(dst []float32, src []byte) {
	for ; len(src) >= 176; src, dst = src[176:], dst[superBlock:] {
		d, dmin, packed, high, codes := half(src), half(src[2:]), src[4:16], (*[32]byte)(src[16:]), src[48:176]
		for sub := range 8 {
			s, m := scaleAndMin(packed, sub)
			scale, least := d*float32(s), dmin*float32(m)
			q, shift := (*[32]byte)(codes[sub>>1*32:]), sub&1*4
			y := (*[32]float32)(dst[sub*32:])
			for i, b := range q {
				y[i] = float32(scale*float32(int32(b>>shift&15|high[i]>>sub&1<<4))) - least
			}
		}
	}
}

// decodeQ6_K: 128 bytes of low halves, 64 bytes of the upper two bits, 16 signed scales,
// d f16. w = d·scale·(q − 32) in sub-blocks of 16. In each half of the block, weights
// 0 to 63 are the low halves of 64 bytes and 64 to 127 the high ones.
func decodeQ6_K(dst []float32, src []byte) {
	for ; len(src) >= 210; src, dst = src[210:], dst[superBlock:] {
		low, high, scales, d := src[:128], src[128:192], src[192:208], half(src[208:])
		for sub, s := range scales {
			dl := d * float32(int8(s))
			part, at := sub>>3, sub&7 // half of the block, sub-block in it
			q := low[part*64+at&3*16:][:16]
			h := high[part*32+at&1*16:][:16]
			shift, pair := at>>2*4, at>>1*2
			y := dst[sub*16:][:16]
			for i, b := range q {
				y[i] = dl * float32(int32(b>>shift&15|h[i]>>pair&3<<4)-32)
			}
		}
	}
}
