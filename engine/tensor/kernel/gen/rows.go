package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rowTiles writes the products of five to eight rows with many rows of B, which are read
// and widened once for all.
func rowTiles() {
	for _, s := range []isa{avx512, avx2} {
		for rows := 5; rows <= 8; rows++ {
			for _, storage := range []string{"F32", "BF16", "F16"} {
				rowTile(s, storage, rows)
			}
		}
	}
}

// rowTile writes out[r, j] = Σ_p x[r, p]·b[j, p] for n rows of B and k elements, a
// multiple of the register. Every register of x is multiplied with as many rows of B as
// there are accumulators for, three with AVX-512, because x comes from a slower cache
// than the first where it is long; rows left over go alone.
func rowTile(s isa, storage string, rows int) {
	name := fmt.Sprintf("rows%s%d%s", storage, rows, s.suffix)
	function(name, "func(out *float32, ldo, n int, x *float32, ldx int, b *byte, ldb, k int)",
		fmt.Sprintf("%s multiplies %d rows of x with n rows of b, k a multiple of 16; ldo, ldx and ldb are in bytes.", name, rows))
	size := 2
	if storage == "F32" {
		size = 4
	}
	several := 1
	if s.wide {
		several = 3
	}
	out, n, ldx, b := GP64(), GP64(), GP64(), GP64()
	Load(Param("out"), out)
	Load(Param("n"), n)
	Load(Param("ldx"), ldx)
	Load(Param("b"), b)
	// Rows 0 to 7 are at low + {0, 1, 2}·ldx, middle + {0, 1, 2}·ldx, high + {0, 1}·ldx.
	var base [3]reg.GPVirtual
	for i := range base {
		base[i] = GP64()
	}
	at := func(r int) Mem {
		m := Mem{Base: base[r/3]}
		if r%3 > 0 {
			m.Index, m.Scale = ldx, uint8(r%3)
		}
		return m
	}
	ahead := GP64() // where the rows that follow are
	Load(Param("ldb"), ahead)
	IMUL3Q(U32(uint32(several)), ahead, ahead)
	from, left := []reg.GPVirtual{GP64(), GP64(), GP64()}, GP64()
	acc, w := make([][]reg.VecPhysical, several), make([]reg.VecPhysical, several)
	const first = 8 // the accumulators', so that instructions before AVX-512 can have those below
	for i := range several {
		w[i] = s.physical(i)
		for r := range rows {
			acc[i] = append(acc[i], s.physical(first+i*rows+r))
		}
	}
	v := s.physical(several)
	tile := func(label string, count int) {
		for i := range count {
			for _, a := range acc[i] {
				s.zero(a)
			}
		}
		Load(Param("x"), base[0])
		LEAQ(Mem{Base: base[0], Index: ldx, Scale: 2}, base[1])
		ADDQ(ldx, base[1])
		LEAQ(Mem{Base: base[1], Index: ldx, Scale: 2}, base[2])
		ADDQ(ldx, base[2])
		MOVQ(b, from[0])
		for i := 1; i < count; i++ {
			MOVQ(from[i-1], from[i])
			addParam("ldb", from[i])
		}
		Load(Param("k"), left)
		Label(label)
		for i, p := range from[:count] {
			if count > 1 || several == 1 {
				PREFETCHT0(Mem{Base: p, Index: ahead, Scale: 1})
			}
			s.widen(storage, Mem{Base: p}, w[i])
			ADDQ(Imm(uint64(s.lanes()*size)), p)
		}
		for r := range rows {
			if count == 1 {
				VFMADD231PS(at(r), w[0], acc[0][r])
				continue
			}
			VMOVUPS(at(r), v)
			for i := range count {
				VFMADD231PS(v, w[i], acc[i][r])
			}
		}
		for _, p := range base[:(rows+2)/3] {
			ADDQ(Imm(uint64(s.bytes())), p)
		}
		SUBQ(Imm(uint64(s.lanes())), left)
		JNE(LabelRef(label))
		to := GP64()
		for i := range count {
			MOVQ(out, to)
			if s.wide && rows == 8 {
				ldo := GP64()
				Load(Param("ldo"), ldo)
				s.sumEight(acc[i], to, ldo)
			} else {
				for r := range rows {
					s.sum(acc[i][r], Mem{Base: to})
					if r < rows-1 {
						addParam("ldo", to)
					}
				}
			}
			ADDQ(Imm(4), out)
			addParam("ldb", b)
		}
		SUBQ(Imm(uint64(count)), n)
	}
	if several > 1 {
		Label("many")
		CMPQ(n, Imm(uint64(several)))
		JLT(LabelRef("next"))
		tile("together", several)
		JMP(LabelRef("many"))
	}
	Label("next")
	TESTQ(n, n)
	JE(LabelRef("done"))
	tile("alone", 1)
	JMP(LabelRef("next"))
	Label("done")
	VZEROUPPER()
	RET()
}
