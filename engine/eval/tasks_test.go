package eval

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tare/engine/grad"
	"tare/engine/model"
	"tare/engine/text"
)

// bigrams is a language model whose scores of the next token depend on the last alone.
type bigrams struct {
	model.Network
	config model.Config
}

func (b bigrams) Info() *model.Config    { return &b.config }
func (b bigrams) score(a, c int) float32 { return float32((a*31+c*17+a*c)%23) / 4 }

func (b bigrams) Hidden(tp *grad.Tape, tokens []int32, seqs grad.Sequences, _ *model.Cache) *grad.Value {
	n := 0
	for _, l := range seqs.Lengths {
		n += l
		if l > b.config.MaxPositions {
			panic("longer than the positions")
		}
	}
	x := make([]float32, n)
	for i, t := range tokens {
		x[i] = float32(t)
	}
	return tp.Const(x, n, 1)
}

func (b bigrams) Logits(tp *grad.Tape, x *grad.Value) *grad.Value {
	v := b.config.VocabSize
	y := make([]float32, x.Rows*v)
	for i, a := range x.Data {
		for c := range v {
			y[i*v+c] = b.score(int(a), c)
		}
	}
	return tp.Const(y, x.Rows, v)
}

// likelihood is Σ log p of tokens[from:], by hand.
func (b bigrams) likelihood(tokens []int32, from int) (sum float64) {
	for i := from; i < len(tokens); i++ {
		var z float64
		for c := range b.config.VocabSize {
			z += math.Exp(float64(b.score(int(tokens[i-1]), c)))
		}
		sum += float64(b.score(int(tokens[i-1]), int(tokens[i]))) - math.Log(z)
	}
	return sum
}

// letters returns a tokenizer of which every byte is a token, and the model over it.
func letters(t *testing.T, vocab, positions int, sample string) (*text.Tokenizer, bigrams) {
	t.Helper()
	raw, err := text.Train([]string{sample}, text.TrainOptions{Vocab: vocab, Special: []string{"<|endoftext|>"}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := tok.ID("<|endoftext|>")
	return tok, bigrams{config: model.Config{VocabSize: tok.VocabSize(), MaxPositions: positions, EOS: &model.TokenID{int(id)}}}
}

func metric(t *testing.T, r TaskResult, name string) float64 {
	t.Helper()
	for _, m := range r.Metrics {
		if m.Name == name {
			return m.Value
		}
	}
	t.Fatalf("no %s in %v", name, r.Metrics)
	return 0
}

// Multiple choice against likelihoods summed by hand, for every way the choices can be
// right, by themselves and by byte.
func TestMultipleChoice(t *testing.T) {
	tok, m := letters(t, 257, 64, "x")
	contexts := []string{"The sky is", "Two and two are", "", "Water "}
	choices := []string{"blue", "four, as it seems to me", "a", "wet or dry", "blue"}
	for at, context := range contexts {
		var likely, byByte int
		var best, bestNorm = math.Inf(-1), math.Inf(-1)
		for k, c := range choices {
			whole := context
			if context == "Water " { // its space belongs to the continuation
				whole = "Water"
				c = " " + c
			}
			tokens := append(tok.EncodeOrdinary(whole), tok.EncodeOrdinary(" "+c)...)
			from := len(whole)
			if whole == "" {
				tokens, from = append([]int32{int32((*m.config.EOS)[0])}, tokens...), 1
			}
			l := m.likelihood(tokens, from)
			if l > best {
				best, likely = l, k
			}
			if n := l / float64(len(choices[k])); n > bestNorm {
				bestNorm, byByte = n, k
			}
		}
		for right := range choices {
			task := Task{Name: "t", Kind: MultipleChoice, Items: []Item{{Context: context, Choices: choices, Answer: right}}}
			r, err := task.Measure(t.Context(), m, tok, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := metric(t, r, "acc") == 1; got != (right == likely) {
				t.Errorf("context %d, answer %d: right %v, the likeliest is %d", at, right, got, likely)
			}
			if got := metric(t, r, "acc_norm") == 1; got != (right == byByte) {
				t.Errorf("context %d, answer %d: right by byte %v, the likeliest is %d", at, right, got, byByte)
			}
		}
		if likely == 4 || byByte == 4 {
			t.Error("of two equal choices the second is taken")
		}
	}
}

// The likelihoods themselves, many at once and too long for one batch, and with contexts
// that lose their beginning.
func TestLikelihoods(t *testing.T) {
	tok, m := letters(t, 257, 40, "x")
	s := &scorer{m: m, tok: tok, window: 40}
	var requests []request
	var want []float64
	for n := range 90 {
		context := strings.Repeat("abcdefgh ", 1+n%7) + "z"
		r, err := s.pair(context, " next"+strings.Repeat("!", n%5))
		if err != nil {
			t.Fatal(err)
		}
		if r.from != len(context) {
			t.Fatalf("the continuation begins at %d, want %d", r.from, len(context))
		}
		requests = append(requests, r)
		want = append(want, m.likelihood(r.tokens, r.from))
	}
	got, err := s.score(t.Context(), requests)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if math.Abs(got[i]-want[i]) > 1e-5*math.Abs(want[i]) {
			t.Errorf("request %d: %v, want %v", i, got[i], want[i])
		}
	}
}

// Context and continuation are encoded together: with " blue" in the vocabulary a context
// that ends in a space is cut before it.
func TestContextGivesItsSpaceAway(t *testing.T) {
	tok, m := letters(t, 290, 64, strings.Repeat("the sky is blue and the sea is blue ", 50))
	blue, ok := tok.ID("Ġblue")
	if !ok {
		t.Skip("the tokenizer has no such token")
	}
	s := &scorer{m: m, tok: tok, window: 64}
	for _, context := range []string{"the sky is", "the sky is "} {
		continuation := " blue"[len(context)-len("the sky is"):]
		r, err := s.pair(context, continuation)
		if err != nil || len(r.tokens)-r.from != 1 || r.tokens[r.from] != blue {
			t.Errorf("%q + %q: tokens %v from %d, want the one token %d, %v", context, continuation, r.tokens, r.from, blue, err)
		}
	}
}

// Perplexities of texts longer than the window: every token is scored once, the first
// after the end-of-text token, with the sums by hand.
func TestRollingPerplexity(t *testing.T) {
	tok, m := letters(t, 257, 16, "x")
	texts := []string{"Rays of light bend in glass and in water, and not in the void.", " a  b\n", "exactly sixteen."}
	var sum, bytes float64
	words := 14.0 + 4 + 2 // " a  b\n" splits into "", a, b, ""
	var items []Item
	for _, s := range texts {
		tokens := append([]int32{int32((*m.config.EOS)[0])}, tok.EncodeOrdinary(s)...)
		sum += m.likelihood(tokens, 1)
		bytes += float64(len(s))
		items = append(items, Item{Text: s})
	}
	task := Task{Name: "t", Kind: Perplexity, Items: items}
	r, err := task.Measure(t.Context(), m, tok, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]float64{
		"word_perplexity": math.Exp(-sum / words), "byte_perplexity": math.Exp(-sum / bytes), "bits_per_byte": -sum / bytes / math.Ln2,
	} {
		if got := metric(t, r, name); math.Abs(got-want) > 1e-4*want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	s := &scorer{m: m, tok: tok, window: 16}
	for n := range 60 {
		scored := 0
		for _, r := range s.windows(strings.Repeat("x", n)) {
			if len(r.tokens) > 17 {
				t.Fatalf("a window of %d tokens", len(r.tokens))
			}
			scored += len(r.tokens) - r.from
		}
		if scored != n {
			t.Errorf("%d of %d tokens are scored", scored, n)
		}
	}
}

func TestClassification(t *testing.T) {
	tok, m := letters(t, 257, 64, "x")
	labels := []string{"good", "bad", "so so"}
	var items []Item
	right := 0
	for n, s := range []string{"A fine book.", "Never again!", "Well", "It rains", "I liked it", "Meh."} {
		label := labels[n%3]
		best, at := math.Inf(-1), ""
		for _, c := range labels {
			context := "Review: " + s + "\nIt is"
			if l := m.likelihood(append(tok.EncodeOrdinary(context), tok.EncodeOrdinary(" "+c)...), len(context)); l > best {
				best, at = l, c
			}
		}
		if at == label {
			right++
		}
		items = append(items, Item{Text: s, Label: label})
	}
	task := Task{Name: "t", Kind: Classification, Labels: labels, Template: "Review: {text}\nIt is", Items: items}
	r, err := task.Measure(t.Context(), m, tok, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := float64(right) / 6
	if got := metric(t, r, "acc"); got != p || len(r.Metrics) != 1 {
		t.Errorf("acc %v, want %v", got, p)
	}
	if got, want := r.Metrics[0].StdErr, math.Sqrt(p*(1-p)/5); math.Abs(got-want) > 1e-12 {
		t.Errorf("standard error %v, want %v", got, want)
	}
}

func TestReadTask(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("mc.jsonl", `{"context": "Grass is", "choices": ["green", "red"], "answer": 0}`+"\n\n"+`{"context": "Blood is", "choices": ["green", "red"], "answer": "red"}`+"\n")
	write("qa.jsonl", `{"prompt": "1+1=", "completion": "2"}`+"\n")
	write("reviews.jsonl", `{"text": "fine", "label": "good"}`+"\n"+`{"text": "awful", "label": "bad"}`+"\n")
	for file, c := range map[string]struct {
		content, kind string
		items         int
	}{
		"mc.jsonl":   {"", MultipleChoice, 2},
		"qa.jsonl":   {"", Exact, 1},
		"a.yaml":     {"kind: multiple_choice\ndata: mc.jsonl\n", MultipleChoice, 2},
		"b.yml":      {"kind: multiple_choice\nitems:\n  - {context: Snow is, choices: [white, black], answer: 1}\n", MultipleChoice, 1},
		"c.yaml":     {"kind: classification\nlabels: [good, bad]\ntemplate: \"{text}? \"\ndata: reviews.jsonl\n", Classification, 2},
		"d.yaml":     {"kind: exact_match\ndata: qa.jsonl\n", Exact, 1},
		"prose.yaml": {"name: prose\nkind: perplexity\nitems: [{text: some words}]\n", Perplexity, 1},
	} {
		path := filepath.Join(dir, file)
		if c.content != "" {
			write(file, c.content)
		}
		task, err := ReadTask(path)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if task.Kind != c.kind || len(task.Items) != c.items || task.Name != strings.TrimSuffix(file, filepath.Ext(file)) {
			t.Errorf("%s: %+v", file, task)
		}
		if c.kind == MultipleChoice {
			if _, err := task.Items[len(task.Items)-1].answer(); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
	for name, content := range map[string]string{
		"kind":     "kind: guess\nitems: [{text: a}]\n",
		"key":      "kind: perplexity\nitem: [{text: a}]\n",
		"none":     "kind: perplexity\n",
		"answer":   "kind: multiple_choice\nitems: [{context: a, choices: [b, c], answer: 2}]\n",
		"negative": "kind: multiple_choice\nitems: [{context: a, choices: [b, c], answer: -1}]\n",
		"word":     "kind: multiple_choice\nitems: [{context: a, choices: [b, c], answer: d}]\n",
		"empty":    "kind: multiple_choice\nitems: [{context: a, choices: [b, \"\"], answer: 0}]\n",
		"label":    "kind: classification\nlabels: [a, b]\nitems: [{text: x, label: c}]\n",
		"labels":   "kind: classification\nitems: [{text: x, label: c}]\n",
		"template": "kind: classification\nlabels: [a, b]\ntemplate: text\nitems: [{text: x, label: a}]\n",
		"both":     "kind: perplexity\ndata: mc.jsonl\nitems: [{text: a}]\n",
		"yaml":     "kind: [\n",
	} {
		if _, err := ReadTask(write(name+".yaml", content)); !errors.Is(err, ErrTask) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadTask(filepath.Join(dir, "nowhere.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
