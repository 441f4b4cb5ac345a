package model

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tare/engine/grad"
	"tare/engine/tensor"
)

func tinyDiT(t *testing.T) *DiT {
	t.Helper()
	m, err := NewDiT(DiTOptions{Images: Images{Height: 6, Width: 6, Channels: 2, Classes: 3}, Patch: 3, Hidden: 16, Layers: 2, Heads: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func normals(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 0))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

func TestDiTPatches(t *testing.T) {
	m := tinyDiT(t)
	pixels := normals(3*72, 1)
	patches := m.Patches(pixels, 3)
	// The second patch of an image begins with row 0, columns 3 to 5 of its first plane.
	if !slices.Equal(patches[18:21], pixels[3:6]) {
		t.Errorf("second patch begins %v, want %v", patches[18:21], pixels[3:6])
	}
	if !slices.Equal(m.Join(patches, 3), pixels) {
		t.Error("Join does not undo Patches")
	}
}

// adaLN-Zero: the network says zero at first; and what it says of an image does not
// depend on the others of a batch.
func TestDiTStartsAtZeroAndKeepsImagesApart(t *testing.T) {
	m := tinyDiT(t)
	x := m.Patches(normals(3*72, 1), 3)
	run := func(x []float32, times []float32, classes []int32) []float32 {
		tp := grad.NewTape(nil)
		var y []float32
		tp.NoGrad(func() { y = slices.Clone(m.Noise(tp, tp.Const(x, 4*len(times), 18), times, classes).Data) })
		return y
	}
	for i, v := range run(x, []float32{0, 0.5, 1}, []int32{0, 1, 2}) {
		if v != 0 {
			t.Fatalf("entry %d is %v at first", i, v)
		}
	}
	shakeDiT(m)
	all := run(x, []float32{0, 0.5, 1}, []int32{0, 1, 2})
	for i, c := range []struct {
		time  float32
		class int32
	}{{0, 0}, {0.5, 1}, {1, 2}} {
		one := run(x[i*72:(i+1)*72], []float32{c.time}, []int32{c.class})
		for k, v := range one {
			if math.Abs(float64(v-all[i*72+k])) > 1e-5 {
				t.Fatalf("image %d alone gives %v at %d, with others %v", i, v, k, all[i*72+k])
			}
		}
	}
	if slices.Equal(all[:72], run(x[:72], []float32{0}, []int32{1})) || slices.Equal(all[:72], run(x[:72], []float32{0.3}, []int32{0})) {
		t.Error("class or time makes no difference")
	}
}

// shakeDiT gives every parameter random numbers.
func shakeDiT(m *DiT) {
	for i, p := range m.Params() {
		for k, v := range normals(p.Value.Len(), uint64(i)+7) {
			p.Value.F32()[k] += 0.2 * v
		}
	}
}

// The gradient of every parameter along a random direction, against the difference
// quotient of the loss.
func TestDiTGradient(t *testing.T) {
	m := tinyDiT(t)
	shakeDiT(m)
	x, want := m.Patches(normals(2*72, 3), 2), normals(2*72, 4)
	off := func(tp *grad.Tape) *grad.Value {
		return tp.Sub(m.Noise(tp, tp.Const(x, 8, 18), []float32{0.2, 0.7}, []int32{2, 0}), tp.Const(want, 8, 18))
	}
	loss := func(tp *grad.Tape) *grad.Value {
		d := off(tp)
		return tp.Mean(tp.Mul(d, d))
	}
	value := func() (v float64) { // in float64, which differences of nearly equal losses need
		tp := grad.NewTape(nil)
		tp.NoGrad(func() {
			d := off(tp).Data
			for _, e := range d {
				v += float64(e) * float64(e) / float64(len(d))
			}
		})
		return v
	}
	for i, p := range m.Params() {
		for _, q := range m.Params() {
			q.Part = grad.Part{}
		}
		p.Part = grad.Whole
		direction, slope := normals(p.Value.Len(), uint64(i)), 0.0
		tp := grad.NewTape(nil)
		err := tp.Backward(loss(tp), func(_ *grad.Param, g *tensor.Tensor) error {
			for k, v := range g.F32() {
				slope += float64(v) * float64(direction[k])
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		was, h := slices.Clone(p.Value.F32()), 5e-4
		at := func(step float64) float64 {
			for k := range was {
				p.Value.F32()[k] = was[k] + float32(step)*direction[k]
			}
			return value()
		}
		quotient := (at(h) - at(-h)) / (2 * h)
		copy(p.Value.F32(), was)
		if math.Abs(slope-quotient) > 4e-3*math.Max(0.1, math.Abs(quotient)) {
			t.Errorf("%s: slope %v, difference quotient %v", p.Name, slope, quotient)
		}
	}
}

func TestDiTRefuses(t *testing.T) {
	good := DiTOptions{Images: Images{Height: 6, Width: 6, Channels: 1, Classes: 2}, Patch: 3, Hidden: 16, Layers: 1, Heads: 2}
	for name, change := range map[string]func(*DiTOptions){
		"not square": func(o *DiTOptions) { o.Width = 9 }, "part of a patch": func(o *DiTOptions) { o.Patch = 4 },
		"no heads": func(o *DiTOptions) { o.Heads = 0 }, "width": func(o *DiTOptions) { o.Hidden = 12 },
		"no classes": func(o *DiTOptions) { o.Classes = 0 },
	} {
		o := good
		change(&o)
		if _, err := NewDiT(o, 1); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
