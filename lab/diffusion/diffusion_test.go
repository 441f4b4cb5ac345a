package diffusion

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tare/engine/data"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/train"
	"tare/method/optim"
)

func TestSchedule(t *testing.T) {
	if a := alphaBar(0); a != 1 {
		t.Errorf("ᾱ(0) = %v", a)
	}
	if a := alphaBar(1); math.Abs(a) > 1e-15 {
		t.Errorf("ᾱ(1) = %v", a)
	}
	// f(t)/f(0) with s → 0 would be cos²(π/4) = 1/2; s moves it a little below.
	if a := alphaBar(0.5); math.Abs(a-0.5) > 0.02 || a >= 0.5 {
		t.Errorf("ᾱ(1/2) = %v", a)
	}
}

// Two classes of which each is one flat image: the network learns to draw them.
func TestDrawsWhatItLearnt(t *testing.T) {
	o := model.DiTOptions{Images: model.Images{Height: 4, Width: 4, Channels: 1, Classes: 2}, Patch: 2, Hidden: 32, Layers: 2, Heads: 2}
	m, err := model.NewDiT(o, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		p.Part = grad.Whole
	}
	rows := make([]float32, 32)
	for i := range rows {
		rows[i] = 0.6
		if i >= 16 {
			rows[i] = -0.4
		}
	}
	source, err := data.NewLabelled(slices.Concat(rows, rows, rows, rows), []int32{0, 1, 0, 1, 0, 1, 0, 1}, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	loop := train.Loop{
		Task: NewTask(m, source, 1), Params: m.Params(), Optimizer: optim.NewAdamW(0, nil), Tape: grad.NewTape(nil),
		Options: train.Options{Steps: 400, LR: 3e-3},
	}
	if err := loop.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	images, err := Draw(t.Context(), m, []int32{0, 1}, 20, 3)
	if err != nil {
		t.Fatal(err)
	}
	for class := range 2 {
		sum := 0.0
		for i := class * 16; i < (class+1)*16; i++ {
			sum += math.Abs(float64(images[i] - rows[i]))
		}
		if sum/16 > 0.15 {
			t.Errorf("class %d is drawn %v, want %v", class, images[class*16:(class+1)*16], rows[class*16])
		}
	}
}

func TestTaskResumes(t *testing.T) {
	o := model.DiTOptions{Images: model.Images{Height: 4, Width: 4, Channels: 1, Classes: 2}, Patch: 2, Hidden: 8, Layers: 1, Heads: 1}
	m, err := model.NewDiT(o, 1)
	if err != nil {
		t.Fatal(err)
	}
	make := func() *Task {
		rows := make([]float32, 5*16)
		source, err := data.NewLabelled(rows, []int32{0, 1, 0, 1, 0}, 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		return NewTask(m, source, 9)
	}
	a, b := make(), make()
	a.next()
	saved, err := a.State()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Restore(saved); err != nil {
		t.Fatal(err)
	}
	x, y := a.next(), b.next()
	if !slices.Equal(x.x, y.x) || !slices.Equal(x.times, y.times) || !slices.Equal(x.classes, y.classes) {
		t.Error("a restored task gives another batch")
	}
	if err := b.Restore([]byte("{")); err == nil {
		t.Error("a broken state is taken")
	}
}

// Samples of one normal distribution are about 0 apart; a shift by μ in one dimension
// makes the polynomial kernel's means differ.
func TestDistance(t *testing.T) {
	sample := func(n int, shift float32, seed uint64) []float32 {
		rng := rand.New(rand.NewPCG(seed, 0))
		x := make([]float32, 4*n)
		for i := range x {
			x[i] = float32(rng.NormFloat64()) + shift
		}
		return x
	}
	same := Distance(sample(400, 0, 1), sample(400, 0, 2), 4)
	near := Distance(sample(400, 0, 1), sample(400, 0.5, 2), 4)
	far := Distance(sample(400, 0, 1), sample(400, 1, 2), 4)
	if math.Abs(same) > 0.05 || near < 0.1 || far < 2*near {
		t.Errorf("distances: same %v, near %v, far %v", same, near, far)
	}
	// By hand for two points each in one dimension: k(x, y) = (xy + 1)³.
	// k(1, 3) = 64; k(0, 2) = 1; across: k(1, 0) = 1, k(1, 2) = 27, k(3, 0) = 1, k(3, 2) = 343.
	if got, want := Distance([]float32{1, 3}, []float32{0, 2}, 1), 64.0+1-2*(1+27+1+343)/4; math.Abs(got-want) > 1e-9 {
		t.Errorf("distance %v, want %v", got, want)
	}
}

func TestDrawStops(t *testing.T) {
	m, err := model.NewDiT(model.DiTOptions{Images: model.Images{Height: 4, Width: 4, Channels: 1, Classes: 2}, Patch: 2, Hidden: 8, Layers: 1, Heads: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Draw(ctx, m, []int32{0}, 5, 1); !errors.Is(err, ctx.Err()) {
		t.Errorf("error %v", err)
	}
}
