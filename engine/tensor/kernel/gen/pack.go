package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// pack writes the transposition that packing a transposed B needs.
func pack() {
	transpose(avx512)
	transpose(avx2)
	pairRows()
}

// pairRows writes the pairs that products in bfloat16 read.
func pairRows() {
	s := avx512
	function("pairRows512", "func(dst, low, high *float32, n int)",
		"pairRows512 rounds n values of two rows to bfloat16 and writes them as pairs, low in the low half.")
	dst, low, high, n := GP64(), GP64(), GP64(), GP64()
	Load(Param("dst"), dst)
	Load(Param("low"), low)
	Load(Param("high"), high)
	Load(Param("n"), n)
	constant := func(v uint32) reg.VecVirtual {
		g, x, z := GP32(), XMM(), ZMM()
		MOVL(U32(v), g)
		VMOVD(g, x)
		VPBROADCASTD(x, z)
		return z
	}
	half, one, top := constant(0x7fff), constant(1), constant(0xffff0000)
	a, b, t := ZMM(), ZMM(), ZMM()
	round := func(v reg.VecVirtual) { // to nearest even, in the upper half
		VPSRLD(Imm(16), v, t)
		VPANDD(one, t, t)
		VPADDD(half, t, t)
		VPADDD(t, v, v)
	}
	join := func() {
		round(a)
		round(b)
		VPSRLD(Imm(16), a, a)
		VPANDD(top, b, b)
		VPORD(a, b, b)
	}
	step := uint64(s.bytes())
	SUBQ(Imm(16), n)
	JLT(LabelRef("rest"))
	Label("block")
	VMOVUPS(Mem{Base: low}, a)
	VMOVUPS(Mem{Base: high}, b)
	join()
	VMOVUPS(b, Mem{Base: dst})
	ADDQ(Imm(step), low)
	ADDQ(Imm(step), high)
	ADDQ(Imm(step), dst)
	SUBQ(Imm(16), n)
	JGE(LabelRef("block"))
	Label("rest")
	ADDQ(Imm(16), n)
	JE(LabelRef("done"))
	bits := GP64()
	MOVQ(U32(1), bits)
	SHLXQ(n, bits, bits)
	DECQ(bits)
	KMOVW(bits.As32(), reg.K1)
	VMOVUPS_Z(Mem{Base: low}, reg.K1, a)
	VMOVUPS_Z(Mem{Base: high}, reg.K1, b)
	join()
	VMOVUPS(b, reg.K1, Mem{Base: dst})
	Label("done")
	VZEROUPPER()
	RET()
}

// transpose writes dst[k][r] = src[r][k] for as many rows r as a register has
// lanes and any number of k.
func transpose(s isa) {
	n := s.lanes()
	name := fmt.Sprintf("transpose%d", n)
	function(name, "func(dst *float32, dstStride int, src *float32, srcStride, k int)", fmt.Sprintf(
		"%s writes the transpose of src [%d, k] to dst [k, %d]; strides are in bytes.", name, n, n))
	dst, ds, src, ss, k, p, q := reg.RDI, reg.RAX, reg.RSI, reg.RBX, reg.RCX, reg.R8, reg.R9
	Load(Param("dst"), dst)
	Load(Param("dstStride"), ds)
	Load(Param("src"), src)
	Load(Param("srcStride"), ss)
	Load(Param("k"), k)
	in, out := make([]reg.VecPhysical, n), make([]reg.VecPhysical, n)
	for i := range n {
		in[i] = s.physical(i)
		if s.wide {
			out[i] = s.physical(n + i)
		}
	}
	block := func(tail bool) {
		MOVQ(src, p)
		for i := range n {
			switch {
			case tail && s.wide:
				VMOVUPS_Z(Mem{Base: p}, reg.K1, in[i])
			default:
				VMOVUPS(Mem{Base: p}, in[i])
			}
			if i < n-1 {
				ADDQ(ss, p)
			}
		}
		var res []reg.VecPhysical
		if s.wide {
			res = turn16(in, out)
		} else {
			res = turn8(in)
		}
		for i := range n {
			VMOVUPS(res[i], Mem{Base: dst})
			ADDQ(ds, dst)
			if tail {
				DECQ(k)
				JE(LabelRef("done"))
			}
		}
	}
	SUBQ(Imm(uint64(n)), k)
	JLT(LabelRef("rest"))
	Label("block")
	block(false)
	ADDQ(Imm(uint64(4*n)), src)
	SUBQ(Imm(uint64(n)), k)
	JGE(LabelRef("block"))
	Label("rest")
	ADDQ(Imm(uint64(n)), k)
	JE(LabelRef("done"))
	if s.wide {
		MOVQ(U32(1), q)
		SHLXQ(k, q, q)
		DECQ(q)
		KMOVW(q.As32(), reg.K1)
		block(true)
	} else {
		single(dst, ds, src, ss, k, p)
	}
	Label("done")
	VZEROUPPER()
	RET()
}

// turn16 transposes 16 registers of 16 in four rounds: pairs, quads, then
// quarters of registers twice.
func turn16(a, b []reg.VecPhysical) []reg.VecPhysical {
	for i := 0; i < 16; i += 2 {
		VUNPCKLPS(a[i+1], a[i], b[i])
		VUNPCKHPS(a[i+1], a[i], b[i+1])
	}
	for i := 0; i < 16; i += 4 {
		VUNPCKLPD(b[i+2], b[i], a[i])
		VUNPCKHPD(b[i+2], b[i], a[i+1])
		VUNPCKLPD(b[i+3], b[i+1], a[i+2])
		VUNPCKHPD(b[i+3], b[i+1], a[i+3])
	}
	for i := range 4 {
		for h := 0; h < 16; h += 8 {
			VSHUFF32X4(Imm(0x88), a[h+4+i], a[h+i], b[h+i])
			VSHUFF32X4(Imm(0xdd), a[h+4+i], a[h+i], b[h+4+i])
		}
	}
	for i := range 8 {
		VSHUFF32X4(Imm(0x88), b[8+i], b[i], a[i])
		VSHUFF32X4(Imm(0xdd), b[8+i], b[i], a[8+i])
	}
	return a
}

// turn8 transposes 8 registers of 8, using the other 8.
func turn8(a []reg.VecPhysical) []reg.VecPhysical {
	b := ys[8:16]
	for i := 0; i < 8; i += 2 {
		VUNPCKLPS(a[i+1], a[i], b[i])
		VUNPCKHPS(a[i+1], a[i], b[i+1])
	}
	for i := 0; i < 8; i += 4 {
		VUNPCKLPD(b[i+2], b[i], a[i])
		VUNPCKHPD(b[i+2], b[i], a[i+1])
		VUNPCKLPD(b[i+3], b[i+1], a[i+2])
		VUNPCKHPD(b[i+3], b[i+1], a[i+3])
	}
	for i := range 4 {
		VPERM2F128(Imm(0x20), a[4+i], a[i], b[i])
		VPERM2F128(Imm(0x31), a[4+i], a[i], b[4+i])
	}
	return b
}

// single moves the last few k one element at a time.
func single(dst, ds, src, ss, k, p reg.Register) {
	Label("one")
	MOVQ(src, p)
	for i := range 8 {
		MOVSS(Mem{Base: p}, reg.X0)
		MOVSS(reg.X0, Mem{Base: dst, Disp: 4 * i})
		if i < 7 {
			ADDQ(ss, p)
		}
	}
	ADDQ(Imm(4), src)
	ADDQ(ds, dst)
	DECQ(k)
	JNE(LabelRef("one"))
}
