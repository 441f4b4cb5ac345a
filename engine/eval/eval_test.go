package eval_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"tare/engine/data"
	"tare/engine/eval"
	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/text"
)

// table is a language model whose scores are row t of scores after token t, whatever
// came before.
type table struct {
	model.Causal
	scores [][]float32
	seen   []int32 // the tokens it was run on
}

func (m *table) Info() *model.Config {
	return &model.Config{VocabSize: len(m.scores), MaxPositions: 1000}
}
func (m *table) Blocks() []model.Block { return nil }

func (m *table) Hidden(tp *grad.Tape, tokens []int32, _ grad.Sequences, _ *model.Cache) *grad.Value {
	m.seen = append(m.seen, tokens...)
	x := make([]float32, len(tokens))
	for i, id := range tokens {
		x[i] = float32(id)
	}
	return tp.Const(x, len(x), 1)
}

func (m *table) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	var out []float32
	for _, id := range x.Data[:x.Rows] {
		out = append(out, m.scores[int(id)]...)
	}
	return tp.Const(out, x.Rows, len(m.scores))
}

// level is a table of equal scores.
func level(vocab int) *table {
	m := &table{scores: make([][]float32, vocab)}
	for t := range m.scores {
		m.scores[t] = make([]float32, vocab)
	}
	return m
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 2e-6*(1+math.Abs(want))) {
		t.Errorf("%s %.9g, want %.9g", what, got, want)
	}
}

// A model to which all bytes are alike needs 8 bits for each byte that it predicts, a
// loss of ln 256 and a perplexity of 256, however the text is cut.
func TestUniformModel(t *testing.T) {
	const n = 1000
	ids := make([]int32, n)
	for i := range ids {
		ids[i] = int32(i * i % 256)
	}
	for _, seqLen := range []int{1, 7, 64, 2000} {
		batches, err := data.WindowBatches(ids, seqLen, 3)
		if err != nil {
			t.Fatal(err)
		}
		calls := 0
		r, err := eval.Loss(t.Context(), level(256), batches, n, func(done, total int) {
			if calls++; done != calls || total != len(batches) {
				t.Errorf("progress %d of %d at call %d of %d", done, total, calls, len(batches))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		near(t, "loss", r.Loss, math.Log(256))
		near(t, "perplexity", r.Perplexity, 256)
		near(t, "bits per byte", r.BitsPerByte, 8*float64(n-1)/n)
		if r.Tokens != n-1 || calls != len(batches) {
			t.Errorf("%d tokens, %d calls", r.Tokens, calls)
		}
	}
}

// A network whose head is zero is uniform too, whatever lies under it.
func TestZeroHead(t *testing.T) {
	m, err := model.New(&model.Config{
		ModelType: "llama", VocabSize: 37, HiddenSize: 16, IntermediateSize: 24, Layers: 2, Heads: 2, KVHeads: 1, HeadDim: 8,
		MaxPositions: 64, NormEps: 1e-5, RopeTheta: 1e4, HiddenAct: "silu",
	}, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params() {
		if p.Name == "lm_head.weight" {
			clear(p.Value.F32())
		}
	}
	batches, err := data.WindowBatches([]int32{1, 2, 3, 5, 8, 13, 21, 34, 18, 15, 33}, 4, 2)
	if err != nil {
		t.Fatal(err)
	}
	r, err := eval.Loss(t.Context(), m, batches, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss", r.Loss, math.Log(37))
	if r.BitsPerByte != 0 {
		t.Errorf("%g bits a byte of a text of unknown length", r.BitsPerByte)
	}
}

// The loss is the mean over tokens with a target of log Σ exp(s) − s of the target: a
// batch with more of them weighs more.
func TestLossOfKnownScores(t *testing.T) {
	m := &table{scores: [][]float32{{0, 1, 2}, {-3, 0.5, 10}, {80, -80, 0}}}
	batches := []*data.Batch{
		{Tokens: []int32{0, 1, 2}, Targets: []int32{2, 2, 2}, Lengths: []int{3}},
		{Tokens: []int32{2, 0, 1}, Targets: []int32{-1, 0, -1}, Lengths: []int{2, 1}},
	}
	var sum float64
	for _, c := range [][2]int{{0, 2}, {1, 2}, {2, 2}, {0, 0}} {
		var exp float64
		for _, s := range m.scores[c[0]] {
			exp += math.Exp(float64(s))
		}
		sum += math.Log(exp) - float64(m.scores[c[0]][c[1]])
	}
	r, err := eval.Loss(t.Context(), m, batches, 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "loss", r.Loss, sum/4)
	near(t, "perplexity", r.Perplexity, math.Exp(sum/4))
	near(t, "bits per byte", r.BitsPerByte, sum/math.Log(2)/5)
	if r.Tokens != 4 {
		t.Errorf("%d tokens, want 4", r.Tokens)
	}
}

func TestLossOfNothing(t *testing.T) {
	for _, batches := range [][]*data.Batch{nil, {{Tokens: []int32{1}, Targets: []int32{-1}, Lengths: []int{1}}}} {
		if _, err := eval.Loss(t.Context(), level(3), batches, 0, nil); !errors.Is(err, data.ErrEmpty) {
			t.Errorf("%d batches: %v", len(batches), err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	batch := &data.Batch{Tokens: []int32{1}, Targets: []int32{1}, Lengths: []int{1}}
	if _, err := eval.Loss(ctx, level(3), []*data.Batch{batch}, 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// speaker is a table that says the given continuations, and a tokenizer of bytes alone.
func speaker(t *testing.T, says ...string) (*table, *text.Tokenizer) {
	t.Helper()
	raw, err := text.Train([]string{"a"}, text.TrainOptions{Vocab: 256})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m := level(tok.VocabSize())
	for _, s := range says {
		ids := tok.EncodeOrdinary(s)
		if len(ids) != len(s) {
			t.Fatalf("%q is %d tokens, want one a byte", s, len(ids))
		}
		for i, id := range ids[1:] {
			m.scores[ids[i]][id] = 1
		}
	}
	return m, tok
}

// An answer is right when its line is the one wanted, space around it aside; characters
// of several bytes may come a byte at a time.
func TestExactMatch(t *testing.T) {
	m, tok := speaker(t, "a5\n", "bé\n", "c 7\n", "d89d", "e\n", "f€\n", "g😀\n", "zyxwvutsrqponmlkjih\n")
	cases := []struct {
		prompt, answer string
		right          bool
	}{
		{"a", "5", true},
		{"a", " 5 ", true},
		{"a", "55", false},
		{"b", "é", true},
		{"b", "e", false},
		{"b", "\uFFFD\uFFFD", false},
		{"c", "7", true},
		{"d", "8", false}, // never ends its line
		{"e", "x", false},
		{"e", "", true},
		{"f", "€", true},
		{"g", "😀", true},
		{"xyz f", "€", true},
		{"z", "yxwvutsrqponmlkjih", true}, // longer than most answers
	}
	var all []eval.Question
	want := 0
	for _, c := range cases {
		q := eval.Question{Prompt: c.prompt, Answer: c.answer}
		got, err := eval.ExactMatch(t.Context(), m, tok, []eval.Question{q}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if (got == 1) != c.right {
			t.Errorf("%q with the answer %q: %g, want right = %v", c.prompt, c.answer, got, c.right)
		}
		for range 6 {
			all = append(all, q)
		}
		if c.right {
			want += 6
		}
	}
	var done []int
	m.seen = nil
	got, err := eval.ExactMatch(t.Context(), m, tok, all, func(n, total int) {
		if done = append(done, n); total != len(all) {
			t.Errorf("progress of %d, want %d", total, len(all))
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	near(t, "right", got, float64(want)/float64(len(all)))
	if len(done) < 2 || done[len(done)-1] != len(all) {
		t.Errorf("progress %v", done)
	}
	newline := tok.EncodeOrdinary("\n")[0]
	for _, id := range m.seen {
		if id == newline {
			t.Fatal("a sequence goes on after the end of its line")
		}
	}
	if none, err := eval.ExactMatch(t.Context(), m, tok, nil, nil); none != 0 || err != nil {
		t.Errorf("no questions: %g, %v", none, err)
	}
}

func TestAccuracy(t *testing.T) {
	scores := []float32{1, 2, 3 /**/, 5, 4, 4 /**/, 0, 0, 0 /**/, -3, -2, -9}
	for _, c := range []struct {
		labels []int32
		want   float64
	}{{[]int32{2, 0, 0, 1}, 1}, {[]int32{2, 1, 1, 1}, 0.5}, {[]int32{0, 0, 2, 2}, 0.25}, {nil, 0}} {
		if got := eval.Accuracy(scores, 3, c.labels); got != c.want {
			t.Errorf("%v: %g, want %g", c.labels, got, c.want)
		}
	}
}
