package speed

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/tensor/kernel"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median of %v is %g, want %g", c.v, got, c.want)
		}
	}
}

func TestRatioIsOursOverThePeers(t *testing.T) {
	j := job{unit: "step", amount: 1}
	own := &runner{rates: []float64{3, 4, 5}}
	rows := j.rows(own, []*runner{{name: "A", rates: []float64{1, 2, 8}}, {name: "failed"}, {name: "B", rates: []float64{8, 8, 8}}})
	if len(rows) != 2 {
		t.Fatalf("%d rows, want one for each peer that was measured", len(rows))
	}
	for i, want := range []float64{2, 0.5} {
		if r := rows[i]; *r.Ratio != want || r.Runs != 3 || r.Min != 3 || r.Max != 5 || r.Unit != "step/s" {
			t.Errorf("row %d: %+v, ratio %g, want %g", i, r, *r.Ratio, want)
		}
	}
	j.less = true
	if r := j.rows(own, []*runner{{name: "A", rates: []float64{12}}})[0]; *r.Ratio != 3 || r.Unit != "step" {
		t.Errorf("where less is better: ratio %g of 12 %s over 4", *r.Ratio, r.Unit)
	}
	j.less = false
	if rows := j.rows(own, nil); len(rows) != 1 || rows[0].Peer != "" || rows[0].Ratio != nil {
		t.Errorf("without peers: %+v", rows)
	}
}

func TestWeightsReadInGigabytes(t *testing.T) {
	// 32 tokens a step, 3 GB of weights a step, 64 tokens/s: two steps, 6 GB a second.
	j := job{unit: "token", amount: 32, weights: func() int64 { return 3e9 }}
	r := j.rows(&runner{rates: []float64{64}}, []*runner{{gauge: true, rates: []float64{12}}})[0]
	if r.WeightsRead != 6 || r.MemoryRead != 12 || r.Peer != "" {
		t.Errorf("reads %g of %g GB/s beside %q", r.WeightsRead, r.MemoryRead, r.Peer)
	}
}

func TestRepetitionsAlternate(t *testing.T) {
	h := &host{reps: 3, said: map[string]bool{}}
	var order string
	peer := func(name string) *runner {
		return &runner{name: name, sample: func() (float64, error) { order += name; return 1, nil }}
	}
	j := job{threads: 1, amount: 1,
		prepare: func(context.Context, *host) (func() error, func(), error) {
			return func() error { order += "o"; return nil }, nil, nil
		},
		peers: func(context.Context, *host) ([]*runner, error) { return []*runner{peer("a"), peer("b")}, nil }}
	rows, err := h.measure(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if want := "oab" + "abo" + "boa" + "oab"; order != want {
		t.Errorf("order %s, want %s: each once to warm up, then in turn", order, want)
	}
	if rows[0].Runs != 3 {
		t.Errorf("%d runs, want 3", rows[0].Runs)
	}
}

func TestAFailingPeerIsLeftOut(t *testing.T) {
	var said []string
	h := &host{reps: 2, said: map[string]bool{}, o: Options{Log: func(line string) { said = append(said, line) }}}
	j := job{threads: 1, amount: 1,
		prepare: func(context.Context, *host) (func() error, func(), error) {
			return func() error { return nil }, nil, nil
		},
		peers: func(context.Context, *host) ([]*runner, error) {
			return []*runner{{name: "peer", sample: func() (float64, error) { return 0, errors.New("gone") }}}, nil
		}}
	rows, err := h.measure(t.Context(), j)
	if err != nil || len(rows) != 1 || rows[0].Peer != "" || len(said) != 1 {
		t.Errorf("rows %+v, said %q, error %v", rows, said, err)
	}
}

// Processes whose memory is measured need no repetition to warm up, and where the system
// does not tell there are no rows.
func TestMemoryIsMeasuredWithoutWarmUp(t *testing.T) {
	h := &host{reps: 7, said: map[string]bool{}}
	n := 0
	j := job{threads: 1, less: true, reps: 2, own: func(context.Context, *host) (*runner, error) {
		return &runner{sample: func() (float64, error) { n++; return float64(n), nil }}, nil
	}}
	rows, err := h.measure(t.Context(), j)
	if err != nil || len(rows) != 1 || rows[0].Runs != 2 || rows[0].Rate != 1.5 || n != 2 {
		t.Errorf("rows %+v, %d samples, error %v", rows, n, err)
	}
	j.own = func(context.Context, *host) (*runner, error) { return nil, errNoPeak }
	if rows, err := h.measure(t.Context(), j); len(rows) != 0 || err != nil || len(h.said) != 1 {
		t.Errorf("rows %+v, said %v, error %v", rows, h.said, err)
	}
}

// Memory is at least what the model and the optimizer hold.
func TestPeakOf(t *testing.T) {
	p, err := PeakOf(t.Context(), 0)
	if errors.Is(err, errNoPeak) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	const parameters = 2*4096*256 + 4*(4*256*256+3*256*1024+2*256) + 256
	if p.Bytes < 3*4*parameters || p.Bytes > 100*4*parameters {
		t.Errorf("the process holds %d bytes, weights and moments alone are %d", p.Bytes, 3*4*parameters)
	}
	if _, err := PeakOf(t.Context(), len(measured())); err == nil {
		t.Error("no error for a training that is not there")
	}
}

func TestUnknownWork(t *testing.T) {
	if _, err := Run(t.Context(), Options{Only: []string{"gemms"}}); !errors.Is(err, ErrWork) {
		t.Errorf("error %v, want ErrWork", err)
	}
}

func TestSparseCheckpointIsTwoGigabytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sparse.safetensors")
	if err := writeSparse(path); err != nil {
		t.Skip("the file system has no holes:", err)
	}
	st, err := os.Stat(path)
	if err != nil || st.Size() < 2<<30 {
		t.Fatalf("size %d, error %v", st.Size(), err)
	}
	f, err := checkpoint.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := len(f.Names()); n != openTensors {
		t.Errorf("%d tensors, want %d", n, openTensors)
	}
}

// A small model of the large one's kind has the bytes that savedBytes' formula gives,
// and each storage the weights that it should.
func TestWeightBytes(t *testing.T) {
	c := largeConfig()
	c.HiddenSize, c.Heads, c.KVHeads, c.IntermediateSize, c.VocabSize, c.Layers = 128, 2, 2, 192, 64, 2
	base, err := model.NewLlama(c, 1)
	if err != nil {
		t.Fatal(err)
	}
	m := models{base: base}
	const layers, head = 2 * (4*128*128 + 3*128*192), 64 * 128
	const scaled = 3.0 / 64 // a scale of two bytes and a zero of one for 64 codes
	headBytes := 2.0
	if kernel.HasBytes() {
		headBytes = 1 + scaled
	}
	for storage, want := range map[string]float64{
		"f32": 4 * (layers + head), "bf16": 2 * (layers + head),
		"4-bit": layers*(0.5+scaled) + headBytes*head,
	} {
		l, err := m.as(storage)
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(weightBytes(l)); math.Abs(got-want) > 0.5 {
			t.Errorf("%s: %g bytes, want %g", storage, got, want)
		}
	}
	var saved float64
	for _, e := range base.Export(tensor.BF16) {
		n := 2.0
		for _, d := range e.Shape {
			n *= float64(d)
		}
		saved += n
	}
	if got := modelBytes(c); got != saved {
		t.Errorf("modelBytes %g, want %g", got, saved)
	}
}
