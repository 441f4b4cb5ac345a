package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set: how wide its registers are and what they are called.
type isa struct {
	suffix string // of the functions' names
	wide   bool   // AVX-512: 32 registers of 16 floats and masks; else 16 of 8
}

var (
	avx512 = isa{"512", true}
	avx2   = isa{"256", false}
)

// lanes is the number of float32 in a register.
func (s isa) lanes() int {
	if s.wide {
		return 16
	}
	return 8
}

// bytes is the size of a register.
func (s isa) bytes() int { return 4 * s.lanes() }

// physical is register number i.
func (s isa) physical(i int) reg.VecPhysical {
	if s.wide {
		return zs[i]
	}
	return ys[i]
}

// virtual is a register that the allocator chooses.
func (s isa) virtual() reg.VecVirtual {
	if s.wide {
		return ZMM()
	}
	return YMM()
}

var zs = []reg.VecPhysical{
	reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7,
	reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
	reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23,
	reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31,
}

var ys = []reg.VecPhysical{
	reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7,
	reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
}

// zero clears a register.
func (s isa) zero(r Op) {
	if s.wide {
		VPXORD(r, r, r)
		return
	}
	VXORPS(r, r, r)
}

// function begins a function whose pointers do not outlive the call.
func function(name, signature, doc string) {
	TEXT(name, 4, signature) // NOSPLIT
	Pragma("noescape")
	Doc(doc)
}
