package adapt

import (
	"errors"
	"fmt"

	"gonum.org/v1/gonum/mat"

	"tare/engine/grad"
	"tare/engine/nn"
	"tare/engine/tensor"
)

// Bone trains one block matrix a layer (Kang 2024, "Bone: Block Affine
// Transformation as Parameter Efficient Fine-tuning Methods for Large Language
// Models", arXiv:2409.15371). Its row form cuts x into chunks of r, sums them, and
// multiplies by the block:
//
//	y = W x + Dᵀ z,   z = Σ_j x[j·r : (j+1)·r],   D [r, out] from zero
//
// so that ΔW[:, j] = D[j mod r, :]ᵀ without ever being built, and the backward pass
// keeps z, of width r, instead of x. x is padded with zeros to a multiple of r.
// Trained entries: r·out a layer. There is no scale. PEFT calls this form Bone, and
// later MiSS; files of either are read.
type Bone struct {
	Rank int  `yaml:"rank" help:"Rows of the block." default:"64"`
	MiSS bool `yaml:"miss" help:"Write files under PEFT's newer name, MiSS."`
}

// NewBone returns the default, rank 64.
func NewBone() *Bone { return &Bone{Rank: 64} }

// Validate implements Options.
func (o *Bone) Validate() error {
	if o.Rank < 1 {
		return fmt.Errorf("adapt: bone: rank %d, want at least 1", o.Rank)
	}
	return nil
}

// Attach implements Options.
func (o *Bone) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	out, in := l.Weight.Dims()
	if err := checkRank("bone", l, o.Rank, in); err != nil {
		return nil, err
	}
	w := &boneWeight{base: l.Weight, d: grad.NewParam(l.Name+".bone_block", tensor.New(o.Rank, out)), file: o.file()}
	w.d.Part = grad.Whole
	l.Weight = w
	return w, nil
}

func (o *Bone) file() string {
	if o.MiSS {
		return "miss_block"
	}
	return "bone_block"
}

// Config implements Options.
func (o *Bone) Config() map[string]any {
	c := map[string]any{"r": o.Rank, "init_weights": true}
	if o.MiSS {
		c["peft_type"], c["mini_r"], c["miss_dropout"] = "MISS", 1, 0.0
	}
	return c
}

// SetConfig implements Options.
func (o *Bone) SetConfig(c map[string]any) error {
	o.Rank, o.MiSS = integer(c, "r", 64), c["peft_type"] == "MISS"
	if form, ok := c["init_weights"].(string); ok && form != "miss" && form != "bone" {
		return fmt.Errorf("adapt: bone: init_weights %q is not the row form; use the method of that name", form)
	}
	return nil
}

type boneWeight struct {
	base nn.Weight
	d    *grad.Param // D [r, out]
	file string
}

func (w *boneWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *boneWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	y := w.base.Apply(tp, x)
	z := tp.FoldColumns(x, w.d.Value.Dim(0))
	return tp.AddMatMul(y, z, tp.Use(w.d), false, false, 1)
}

func (w *boneWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	w.addDelta(dst, 1)
	return nil
}

func (w *boneWeight) addDelta(dst *tensor.Tensor, sign float32) {
	r, out, in := w.d.Value.Dim(0), dst.Dim(0), dst.Dim(1)
	d, t := w.d.Value.F32(), dst.F32()
	for p := range out {
		for j := range in {
			t[p*in+j] += sign * d[j%r*out+p] // ΔW[p, j] = D[j mod r, p]
		}
	}
}

func (w *boneWeight) Params() []*grad.Param { return append(w.base.Params(), w.d) }

func (w *boneWeight) State() []Named { return []Named{{w.file, w.d.Value}} }

func (w *boneWeight) Restore(state map[string]*tensor.Tensor) error {
	return restore(w.d.Value, state, "bone_block", "miss_block")
}

func (w *boneWeight) Unmerge(t *tensor.Tensor) error {
	w.addDelta(t, -1)
	return nil
}

// Bat is Bone's weight-guided form (same paper): the update passes through W
// itself. W is cut into r×r blocks W_ab, each row a of blocks has one block D_a:
//
//	W'_ab = W_ab + W_ab D_a + D_a,   D_a [r, r] from zero
//
// r divides both dimensions. Trained entries: r·out a layer. W' exists for one layer
// at a time and is formed again in the backward pass.
type Bat struct {
	Rank int `yaml:"rank" help:"Side of the blocks; divides both dimensions of every target." default:"64"`
}

// NewBat returns the default, rank 64.
func NewBat() *Bat { return &Bat{Rank: 64} }

// Validate implements Options.
func (o *Bat) Validate() error {
	if o.Rank < 1 {
		return fmt.Errorf("adapt: bat: rank %d, want at least 1", o.Rank)
	}
	return nil
}

// Attach implements Options.
func (o *Bat) Attach(l *nn.Linear, seed uint64) (Attached, error) {
	out, in := l.Weight.Dims()
	if out%o.Rank != 0 || in%o.Rank != 0 {
		return nil, fmt.Errorf("adapt: bat: rank %d does not divide layer %s [%d, %d]; choose a common divisor, or the bone form, which takes any", o.Rank, l.Name, out, in)
	}
	w := &batWeight{base: l.Weight, d: grad.NewParam(l.Name+".bone_block", tensor.New(out/o.Rank, o.Rank, o.Rank))}
	w.d.Part = grad.Whole
	l.Weight = w
	return w, nil
}

// Config implements Options.
func (o *Bat) Config() map[string]any { return map[string]any{"r": o.Rank, "init_weights": "bat"} }

// SetConfig implements Options.
func (o *Bat) SetConfig(c map[string]any) error {
	o.Rank = integer(c, "r", 64)
	if c["init_weights"] != "bat" {
		return errors.New(`adapt: bat: init_weights is not "bat"; use the bone method`)
	}
	return nil
}

type batWeight struct {
	base nn.Weight
	d    *grad.Param // D [out/r, r, r]
}

func (w *batWeight) Dims() (out, in int) { return w.base.Dims() }

func (w *batWeight) Apply(tp *grad.Tape, x *grad.Value) *grad.Value {
	return tp.Checkpoint(x, func(tp *grad.Tape, x *grad.Value) *grad.Value {
		return tp.MatMul(x, tp.BlockAffine(w.frozen(tp), tp.Use(w.d)), false, true)
	})
}

// frozen returns W as a constant: the base's own storage when it is dense f32.
func (w *batWeight) frozen(tp *grad.Tape) *grad.Value {
	out, in := w.Dims()
	if d, ok := w.base.(nn.Dense); ok && d.P.Value.DType() == tensor.F32 {
		return tp.Const(d.P.Value.F32(), out, in)
	}
	v, err := tp.Fill(out, in, func(dst []float32) error { return w.base.Dense(tensor.FromF32(dst, out, in)) })
	if err != nil {
		panic("adapt: bat: " + err.Error()) // shapes were checked when it was attached
	}
	return v
}

func (w *batWeight) Dense(dst *tensor.Tensor) error {
	if err := w.base.Dense(dst); err != nil {
		return err
	}
	tp := grad.NewTape(nil)
	tp.NoGrad(func() {
		z := tp.BlockAffine(tp.Const(dst.F32(), dst.Dim(0), dst.Dim(1)), tp.Use(w.d))
		copy(dst.F32(), z.Data)
	})
	tp.Reset()
	return nil
}

func (w *batWeight) Params() []*grad.Param { return append(w.base.Params(), w.d) }

func (w *batWeight) State() []Named { return []Named{{"bone_block", w.d.Value}} }

func (w *batWeight) Restore(state map[string]*tensor.Tensor) error {
	return restore(w.d.Value, state, "bone_block")
}

// Unmerge solves W_ab = (W'_ab − D_a)(I + D_a)⁻¹ in float64.
func (w *batWeight) Unmerge(t *tensor.Tensor) error {
	r, in := w.d.Value.Dim(1), t.Dim(1)
	d, data := w.d.Value.F32(), t.F32()
	for a := range w.d.Value.Dim(0) {
		block := d[a*r*r : (a+1)*r*r]
		m := mat.NewDense(r, r, nil) // (I + D_a)ᵀ
		for p := range r {
			for q := range r {
				m.Set(q, p, float64(block[p*r+q]))
			}
			m.Set(p, p, m.At(p, p)+1)
		}
		var lu mat.LU
		lu.Factorize(m)
		for b := range in / r {
			at := a*r*in + b*r
			rhs := mat.NewDense(r, r, nil) // (W'_ab − D_a)ᵀ
			for p := range r {
				for q := range r {
					rhs.Set(q, p, float64(data[at+p*in+q])-float64(block[p*r+q]))
				}
			}
			var x mat.Dense
			if err := lu.SolveTo(&x, false, rhs); err != nil {
				return fmt.Errorf("adapt: bat: block row %d of I + D cannot be inverted: %w", a, err)
			}
			for p := range r {
				for q := range r {
					data[at+p*in+q] = float32(x.At(q, p))
				}
			}
		}
	}
	return nil
}
