package programs

import "tare/method/optimize"

// Formula is a problem min f(x) subject to c(x) = 0 as it is printed: its start, f and c in
// [Jet]s, and the least value that is known, with the digits that it is known to.
type Formula struct {
	Name    string
	Start   []float64
	F       func(x []Jet) Jet
	C       func(x []Jet) []Jet
	Optimum float64
	m       int
}

// Dims implements optimize.Program.
func (p *Formula) Dims() (n, m int) {
	if p.m == 0 {
		p.m = len(p.C(variables(p.Start, false)))
	}
	return len(p.Start), p.m
}

// Objective implements optimize.Program.
func (p *Formula) Objective(x []float64) float64 { return p.F(variables(x, false)).V }

// Gradient implements optimize.Program.
func (p *Formula) Gradient(dst, x []float64) { copy(dst, p.F(variables(x, true)).g) }

// Constraints implements optimize.Program.
func (p *Formula) Constraints(dst, x []float64) {
	for i, c := range p.C(variables(x, false)) {
		dst[i] = c.V
	}
}

// Jacobian implements optimize.Program.
func (p *Formula) Jacobian(x []float64) []optimize.Entry {
	var out []optimize.Entry
	for i, c := range p.C(variables(x, true)) {
		for j, v := range c.g {
			if v != 0 {
				out = append(out, optimize.Entry{Row: int32(i), Column: int32(j), Value: v})
			}
		}
	}
	return out
}

// Hessian implements optimize.Program.
func (p *Formula) Hessian(x []float64, s float64, lambda []float64) []optimize.Entry {
	jets := variables(x, true)
	sum := make([]float64, len(x)*len(x))
	add := func(s float64, j Jet) {
		for i, v := range j.h {
			sum[i] += s * v
		}
	}
	if s != 0 {
		add(s, p.F(jets))
	}
	for i, c := range p.C(jets) {
		add(lambda[i], c)
	}
	var out []optimize.Entry
	for i, v := range sum {
		if v != 0 {
			out = append(out, optimize.Entry{Row: int32(i / len(x)), Column: int32(i % len(x)), Value: v})
		}
	}
	return out
}

// repeated is n times the same number.
func repeated(n int, v float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = v
	}
	return out
}
