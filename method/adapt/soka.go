package adapt

import (
	"errors"
	"fmt"
	"maps"
	"math"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// SoKA trains the principal Kronecker terms of a weight and freezes the rest (Chong and
// Qu 2025, "Singular Value Decomposition on Kronecker Adaptation for Large Language
// Model", arXiv:2506.15251). With out = o1·o2 and in = i1·i2 the entries of W, put in
// another order, have a singular value decomposition whose vectors are factors (Van
// Loan and Pitsianis 1993):
//
//	R(W)[(p, a), (q, b)] = W[p·o2 + q, a·i2 + b],   R(W) = Σ σ_k u_k v_kᵀ
//	W = Σ σ_k U_k ⊗ V_k,   U_k [o1, i1],  V_k [o2, i2]
//	y = W_r x + Σ_{k≤K} (U_k ⊗ V_k) x,   (U ⊗ V) x = vec(U X Vᵀ)
//
// U_k and V_k start with √σ_k in each; W_r = W − Σ of the start is frozen, in f32
// whatever the base is held in. K is chosen for each layer, see terms. Trained entries:
// K·(o1·i1 + o2·i2) a layer. The product is never built, see grad.AddKronecker.
//
// Unless told otherwise o1 is the largest divisor of out up to its root and i1 the
// smallest of in from its root, so that both factors have about as many entries; the
// paper leaves the split open. The decomposition is exact up to a smaller side of 512,
// randomized beyond. Files hold all K factors below one another as soka_U [K, o1, i1]
// and soka_V [K, o2, i2], and those of the start.
type SoKA struct {
	Rank      int     `yaml:"rank" help:"Most Kronecker terms that a layer trains." default:"8"`
	Energy    float64 `yaml:"energy" help:"Share of the squared singular values that the terms must reach; 1 asks for all." default:"0.9"`
	Elbow     bool    `yaml:"elbow" help:"Stop at the elbow of the singular values where that comes earlier." default:"true"`
	OutFactor int     `yaml:"out_factor" help:"Rows o1 of U_k, a divisor of the layer's outputs; 0 chooses." default:"0"`
	InFactor  int     `yaml:"in_factor" help:"Columns i1 of U_k, a divisor of the layer's inputs; 0 chooses." default:"0"`

	ranks map[string]int // terms of each layer: chosen, or a file's
	saved bool           // a file says them
}

// NewSoKA returns the defaults: at most 8 terms, 0.9 of the energy, the elbow.
func NewSoKA() *SoKA { return &SoKA{Rank: 8, Energy: 0.9, Elbow: true} }

// Validate implements Options.
func (o *SoKA) Validate() error {
	var errs []error
	if o.Rank < 1 {
		errs = append(errs, fmt.Errorf("adapt: soka: rank %d, want at least 1", o.Rank))
	}
	if !(o.Energy > 0 && o.Energy <= 1) {
		errs = append(errs, fmt.Errorf("adapt: soka: energy %g, want above 0 up to 1", o.Energy))
	}
	if o.OutFactor < 0 || o.InFactor < 0 {
		errs = append(errs, fmt.Errorf("adapt: soka: out_factor %d and in_factor %d, want divisors, or 0 to choose", o.OutFactor, o.InFactor))
	}
	return errors.Join(errs...)
}

// kronSizes are the sizes of the factors: U [o1, i1], V [o2, i2].
type kronSizes struct{ o1, o2, i1, i2 int }

// sizes splits a layer's dimensions.
func (o *SoKA) sizes(l *nn.Linear) (kronSizes, error) {
	out, in := l.Weight.Dims()
	o1, i1 := o.OutFactor, o.InFactor
	if o1 == 0 {
		o1 = divisorUpTo(out, math.Sqrt(float64(out)))
	}
	if i1 == 0 {
		i1 = in / divisorUpTo(in, math.Sqrt(float64(in)))
	}
	var errs []error
	for _, d := range []struct {
		key     string
		size, n int
	}{{"out_factor", o1, out}, {"in_factor", i1, in}} {
		if d.n%d.size != 0 {
			errs = append(errs, fmt.Errorf("adapt: soka: %s %d does not divide %d of layer %s [%d, %d]; the nearest that does is %d", d.key, d.size, d.n, l.Name, out, in, nearestDivisor(d.n, d.size)))
		}
	}
	if errs != nil {
		return kronSizes{}, errors.Join(errs...)
	}
	return kronSizes{o1, out / o1, i1, in / i1}, nil
}

// divisorUpTo returns the largest divisor of n that is at most limit.
func divisorUpTo(n int, limit float64) int {
	for d := min(n, int(limit+1e-9)); d > 1; d-- {
		if n%d == 0 {
			return d
		}
	}
	return 1
}

// nearestDivisor returns the divisor of n nearest to d, of two the smaller.
func nearestDivisor(n, d int) int {
	for gap := 0; ; gap++ {
		for _, near := range []int{d - gap, d + gap} {
			if near > 0 && near <= n && n%near == 0 {
				return near
			}
		}
	}
}

// rearranged returns R(W) [o1·i1, o2·i2].
func (z kronSizes) rearranged(w *tensor.Tensor) *tensor.Tensor {
	r := tensor.New(z.o1*z.i1, z.o2*z.i2)
	for p := range z.o1 {
		for a := range z.i1 {
			row := r.F32()[(p*z.i1+a)*z.o2*z.i2:]
			for q := range z.o2 {
				copy(row[q*z.i2:(q+1)*z.i2], w.F32()[(p*z.o2+q)*z.i1*z.i2+a*z.i2:])
			}
		}
	}
	return r
}

// terms chooses K from the singular values σ, of which there may be more than are known:
// total is the sum of all their squares. It is the smaller of the first K whose squares
// reach the share ε of total, and of the elbow, the position whose point lies farthest
// from the chord between the first and the last value; at least 1, at most the rank.
func (o *SoKA) terms(sigma []float64, total float64) int {
	k, sum := len(sigma), 0.0
	for i, s := range sigma {
		if sum += s * s; sum >= o.Energy*total*(1-1e-9) {
			k = i + 1
			break
		}
	}
	if n := len(sigma); o.Elbow && n > 2 {
		first, slope := sigma[0], (sigma[n-1]-sigma[0])/float64(n-1)
		elbow, far := n, 0.0
		for i, s := range sigma { // the distance, up to a factor that all share
			if d := first + slope*float64(i) - s; d > far {
				elbow, far = i+1, d
			}
		}
		k = min(k, elbow)
	}
	return max(1, min(k, o.Rank))
}

// Attach implements Options.
func (o *SoKA) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	z, err := o.sizes(l)
	if err != nil {
		return nil, err
	}
	most := min(z.o1*z.i1, z.o2*z.i2)
	residual, err := finite("soka", l)
	if err != nil {
		return nil, err
	}
	var u, v *tensor.Tensor
	if o.saved {
		k, there := o.ranks[l.Name]
		if !there || k < 1 || k > most {
			return nil, fmt.Errorf("adapt: soka: rank_pattern says %d terms of layer %s, want 1 to %d", k, l.Name, most)
		}
		u, v = tensor.New(k, z.o1, z.i1), tensor.New(k, z.o2, z.i2)
	} else if u, v, err = o.principal(residual, z, most, seed); err != nil {
		return nil, fmt.Errorf("adapt: soka: layer %s: %w", l.Name, err)
	}
	if o.ranks == nil {
		o.ranks = map[string]int{}
	}
	o.ranks[l.Name] = u.Dim(0)
	w := &sokaWeight{residual: residual, u: grad.NewParam(l.Name+".soka_U", u), v: grad.NewParam(l.Name+".soka_V", v), u0: u.Clone(), v0: v.Clone()}
	w.u.Part, w.v.Part = grad.Whole, grad.Whole
	addKronecker(residual, w.u0, w.v0, -1)
	w.base = nn.NewDense(l.Name+".weight", residual)
	l.Weight = w
	return w, nil
}

// principal returns the factors of the terms that are to train. Of a large matrix no
// more of the singular values than four times the rank are looked at.
func (o *SoKA) principal(w *tensor.Tensor, z kronSizes, most int, seed uint64) (u, v *tensor.Tensor, err error) {
	r := z.rearranged(w)
	var um *mat.Dense
	var sigma []float64
	if most > exactSVD {
		um, sigma, _, err = principal(r, min(most, 4*o.Rank), seed)
	} else {
		um, sigma, err = leftVectors(r)
	}
	if err != nil {
		return nil, nil, err
	}
	var total float64
	for _, x := range r.F32() {
		total += float64(x) * float64(x)
	}
	k := o.terms(sigma, total)
	um = um.Slice(0, r.Dim(0), 0, k).(*mat.Dense)
	vm := times(r, true, um) // column k is σ_k v_k
	u, v = tensor.New(k, z.o1, z.i1), tensor.New(k, z.o2, z.i2)
	for at := range k {
		root := math.Sqrt(sigma[at])
		if root == 0 {
			continue
		}
		for j := range z.o1 * z.i1 {
			u.F32()[at*z.o1*z.i1+j] = float32(root * um.At(j, at))
		}
		for j := range z.o2 * z.i2 {
			v.F32()[at*z.o2*z.i2+j] = float32(vm.At(j, at) / root)
		}
	}
	return u, v, nil
}

// leftVectors returns U and all singular values of m in falling order, from the
// eigenvectors of the smaller of m mᵀ and mᵀ m: two thirds of the time of a whole
// decomposition, with values exact to 1e-8 of the largest.
func leftVectors(m *tensor.Tensor) (u *mat.Dense, sigma []float64, err error) {
	rows, cols := m.Dim(0), m.Dim(1)
	a := wide(m.F32(), rows, cols)
	n := min(rows, cols)
	gram := mat.NewSymDense(n, nil)
	if rows <= cols {
		gram.SymOuterK(1, a)
	} else {
		gram.SymOuterK(1, a.T())
	}
	var eig mat.EigenSym
	if !eig.Factorize(gram, true) {
		return nil, nil, errSVD
	}
	var vectors mat.Dense
	eig.VectorsTo(&vectors)
	rising := eig.Values(nil)
	falling := mat.NewDense(n, n, nil)
	for k := range n {
		sigma = append(sigma, math.Sqrt(max(0, rising[n-1-k])))
		falling.SetCol(k, mat.Col(nil, n-1-k, &vectors))
	}
	if rows <= cols {
		return falling, sigma, nil
	}
	u = mat.NewDense(rows, n, nil)
	u.Mul(a, falling)
	for k, s := range sigma {
		if s > 0 {
			column := u.ColView(k).(*mat.VecDense)
			column.ScaleVec(1/s, column)
		}
	}
	return u, sigma, nil
}

// Config implements Options.
func (o *SoKA) Config() map[string]any {
	return map[string]any{"r": o.Rank, "energy": o.Energy, "elbow": o.Elbow, "out_factor": o.OutFactor, "in_factor": o.InFactor, "rank_pattern": maps.Clone(o.ranks)}
}

// SetConfig implements Options.
func (o *SoKA) SetConfig(c map[string]any) error {
	o.Rank, o.Energy, o.Elbow = integer(c, "r", 8), number(c, "energy", 0.9), truth(c, "elbow")
	o.OutFactor, o.InFactor, o.saved = integer(c, "out_factor", 0), integer(c, "in_factor", 0), true
	var err error
	if o.ranks, err = patternOf(c, "rank_pattern", func(v float64) int { return int(v) }); err != nil {
		return fmt.Errorf("adapt: soka: %w", err)
	}
	return nil
}

// sokaWeight is a Weight that adds Kronecker terms to the residual and knows which it
// started from.
type sokaWeight struct {
	base     nn.Weight
	residual *tensor.Tensor // the base's
	u, v     *grad.Param    // U [K, o1, i1], V [K, o2, i2]
	u0, v0   *tensor.Tensor
}

func (w *sokaWeight) rank() int { return w.u.Value.Dim(0) }

func (w *sokaWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *sokaWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.AddKronecker(w.base.Apply(tp, x), x, tp.Use(w.u), tp.Use(w.v), w.rank())
}

func (w *sokaWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	addKronecker(dst, w.u.Value, w.v.Value, 1)
	return nil
}

// addKronecker adds sign·Σ U_k ⊗ V_k to dst [o1·o2, i1·i2].
func addKronecker(dst, u, v *tensor.Tensor, sign float32) {
	terms, o1, i1 := u.Dim(0), u.Dim(1), u.Dim(2)
	o2, i2 := v.Dim(1), v.Dim(2)
	for p := range o1 {
		for q := range o2 {
			row := dst.F32()[(p*o2+q)*i1*i2 : (p*o2+q+1)*i1*i2]
			for c := range row {
				var sum float64
				for k := range terms {
					sum += float64(u.F32()[(k*o1+p)*i1+c/i2]) * float64(v.F32()[(k*o2+q)*i2+c%i2])
				}
				row[c] += sign * float32(sum)
			}
		}
	}
}

func (w *sokaWeight) Params() []*grad.Param { return append(w.base.Params(), w.u, w.v) }

func (w *sokaWeight) State() []Named {
	return []Named{{"soka_U", w.u.Value}, {"soka_V", w.v.Value}, {"soka_U_start", w.u0}, {"soka_V_start", w.v0}}
}

// Restore takes the factors, and the residual that those of the file's start leave.
func (w *sokaWeight) Restore(state map[string]*tensor.Tensor) error {
	addKronecker(w.residual, w.u0, w.v0, 1)
	for _, s := range w.State() {
		if err := restore(s.Tensor, state, s.Name); err != nil {
			return err
		}
	}
	addKronecker(w.residual, w.u0, w.v0, -1)
	return nil
}

// Unmerge takes the trained terms away and puts those of the start in their place.
func (w *sokaWeight) Unmerge(t *tensor.Tensor) error {
	addKronecker(t, w.u.Value, w.v.Value, -1)
	addKronecker(t, w.u0, w.v0, 1)
	return nil
}

// Figures implements Figured: the terms that each kind of layer was given.
func (o *SoKA) Figures(a *Adapter) map[string]float64 {
	return rankFigures(a, func(h Attached) int { return h.(*sokaWeight).rank() })
}
