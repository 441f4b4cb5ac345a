package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tare/engine/checkpoint"
	"tare/engine/model"
	"tare/engine/tensor"
	"tare/engine/text"
	"tare/lab/tuning"
	"tare/method/adapt"
)

const verse = "the wind was on the water and the water was on the stone and the stone was in the wind\n"

// The test's own binary is the worker when this variable is set. Where it names a file,
// the worker of LoRA's second seed makes the file and dies, once.
const workerVariable = "TARE_COMPARE_TEST_WORKER"

func TestMain(m *testing.M) {
	mark, worker := os.LookupEnv(workerVariable)
	if !worker {
		os.Exit(m.Run())
	}
	if err := work(mark); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func work(mark string) error {
	if mark == "" {
		return Work(context.Background(), os.Stdin, os.Stdout)
	}
	raw := make([]byte, 4096)
	n, err := os.Stdin.Read(raw)
	if err != nil {
		return err
	}
	line := string(raw[:n])
	if _, err := os.Stat(mark); err != nil && strings.Contains(line, `"kind":"run"`) && strings.Contains(line, `"name":"lora"`) && strings.Contains(line, `"seed":2`) {
		if err := os.WriteFile(mark, nil, 0o666); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "the machine caught fire")
		self, err := os.FindProcess(os.Getpid())
		if err != nil {
			return err
		}
		if err := self.Kill(); err != nil {
			return err
		}
		time.Sleep(time.Minute)
	}
	return Work(context.Background(), io.MultiReader(strings.NewReader(line), os.Stdin), os.Stdout)
}

// tinyBase writes a small random model with its tokenizer, and a text.
func tinyBase(t *testing.T) (base, book string) {
	t.Helper()
	raw, err := text.Train([]string{verse}, text.TrainOptions{Vocab: 280})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.NewLlama(&model.Config{ModelType: "llama", VocabSize: tok.VocabSize(), HiddenSize: 32, IntermediateSize: 48, Layers: 2,
		Heads: 4, KVHeads: 2, HeadDim: 8, MaxPositions: 64, NormEps: 1e-5, RopeTheta: 10000, HiddenAct: "silu", TieEmbeddings: true}, 3)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	base, book = filepath.Join(dir, "model"), filepath.Join(dir, "book.txt")
	if err := tuning.SaveModel(base, m, tensor.F32, nil, map[string][]byte{"tokenizer.json": raw}, false); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(book, []byte(strings.Repeat(verse, 200)), 0o666); err != nil {
		t.Fatal(err)
	}
	return base, book
}

func TestMethodsAreParsed(t *testing.T) {
	all, err := ParseMethod("all")
	if err != nil || len(all) != 1+len(adapt.Methods()) || all[0].Name != tuning.Full {
		t.Errorf("all: %v, %v", all, err)
	}
	one, err := ParseMethod("lora rank=4 lr=0.01 alpha=8")
	if err != nil || len(one) != 1 || one[0].LR != 0.01 || one[0].Options["rank"] != "4" || len(one[0].Options) != 2 {
		t.Errorf("lora: %+v, %v", one, err)
	}
	for text, want := range map[string]string{
		"lorra": `did you mean "lora"`, "lora rnk=4": `did you mean "rank"`, "lora rank": "write key=value", "lora rank=x": "Rank",
		"lora lr=fast": "lr is", "lora rank=4 rank=8": "twice", "all rank=4": "no settings", "": "empty name", "lora rank=0": "want at least 1", "full rank=2": "no options",
	} {
		if _, err := ParseMethod(text); !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestDataIsParsed(t *testing.T) {
	for text, want := range map[string]Data{
		"a.txt":                         {"a.txt", 8, 128, 7},
		"a.txt steps=3 seq_len=16":      {"a.txt", 8, 16, 3},
		"bundled:arithmetic batch=2":    {"bundled:arithmetic", 2, 64, 7},
		"bundled:opticks":               {"bundled:opticks", 8, 128, 7},
		"some/where.jsonl batch=1 ":     {"some/where.jsonl", 1, 128, 7},
		"bundled:source seq_len=32":     {"bundled:source", 8, 32, 7},
		"bundled:opticks   steps=90   ": {"bundled:opticks", 8, 128, 90},
	} {
		if got, err := ParseData(text, Data{Steps: 7}); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	if _, err := ParseData("a.txt step=3", Data{}); !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), `did you mean "steps"`) {
		t.Errorf("an unknown setting: %v", err)
	}
	if _, err := openSet("bundled:optics"); err == nil || !strings.Contains(err.Error(), `did you mean "bundled:opticks"`) {
		t.Errorf("an unknown set: %v", err)
	}
}

func TestRecipeSaysAllThatIsWrong(t *testing.T) {
	r := Recipe{Data: []Data{{"a", 0, 1, 1}, {"a", 1, 2, 1}}, Methods: []Method{{Name: "lora"}, {Name: "lora"}}, Budget: Budget{Trainable: 5, Peak: 7}}
	err := r.Validate()
	for _, want := range []string{"batch is 0", "data a is named twice", "method lora is named twice", "seeds is 0", "both choose"} {
		if !errors.Is(err, ErrRecipe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

// The size that is found is the one that trying every size finds.
func TestSizeIsTheNearest(t *testing.T) {
	base, _ := tinyBase(t)
	f, err := checkpoint.OpenFolder(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, row := range adapt.Methods() {
		m, err := model.LoadCausal(f.Config, f, model.LoadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r := tuning.Default()
		r.Method = row.Name
		search := func() *sizer { return &sizer{recipe: r, model: m, counts: map[int]counted{}} }
		s := search()
		if err := s.choose(); errors.Is(err, errNoSize) {
			continue
		} else if err != nil {
			t.Fatal(err)
		}
		every := search()
		every.name, every.start = s.name, s.start
		for v := 1; v <= s.limit(); v++ {
			every.count(v)
		}
		for _, want := range []int64{300, 2000, 5000} {
			best := every.best(want)
			if best == 0 {
				continue // it fits no layer of this model, which is its own affair
			}
			got, err := s.nearest(want)
			if err != nil {
				t.Errorf("%s, %d entries: %v", row.Name, want, err)
				continue
			}
			off := func(v int) int64 { n := every.count(v).n; return max(n-want, want-n) }
			if off(got) > off(best)+want/50 {
				t.Errorf("%s, %d entries: size %d trains %d, size %d would train %d", row.Name, want, got, every.counts[got].n, best, every.counts[best].n)
			}
		}
	}
}

func TestLargestSizeThatFits(t *testing.T) {
	base, _ := tinyBase(t)
	f, err := checkpoint.OpenFolder(base)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := model.LoadCausal(f.Config, f, model.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	r := tuning.Default()
	s := &sizer{recipe: r, model: m, name: rankName, counts: map[int]counted{}}
	for most := range 50 {
		got, err := s.largest(func(v int) (bool, error) { return v <= most, nil })
		if want := min(most, s.limit()); most > 0 && (err != nil || got != want) {
			t.Errorf("where %d fits: %d, %v", most, got, err)
		}
		if most == 0 && err == nil {
			t.Error("where nothing fits there is no error")
		}
	}
}

// memory is a store.
type memory struct {
	mu   sync.Mutex
	kept map[Key][]byte
}

func (m *memory) Measured(_ context.Context, k Key) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept[k], nil
}

func (m *memory) KeepMeasured(_ context.Context, k Key, result []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept[k] = result
	return nil
}

func tinyRecipe(t *testing.T) Recipe {
	base, book := tinyBase(t)
	r := Recipe{Base: base, Data: []Data{{book, 4, 16, 6}}, Seeds: 2, LR: 0.01, Source: book}
	for _, text := range []string{"full", "lora", "paca rank=2"} {
		m, err := ParseMethod(text)
		if err != nil {
			t.Fatal(err)
		}
		r.Methods = append(r.Methods, m...)
	}
	return r
}

// options start this test's binary as worker; hired counts how often.
func options(store Store, mark string, hired *int) Options {
	var mu sync.Mutex
	return Options{Store: store, Workers: 2, Worker: func() *exec.Cmd {
		mu.Lock()
		defer mu.Unlock()
		*hired++
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), workerVariable+"="+mark)
		return cmd
	}}
}

func TestDeadWorkerCostsItsCellAlone(t *testing.T) {
	r := tinyRecipe(t)
	store := &memory{kept: map[Key][]byte{}}
	mark := filepath.Join(t.TempDir(), "burnt")
	hired := 0
	c, err := Run(t.Context(), r, options(store, mark, &hired))
	if err != nil {
		t.Fatal(err)
	}
	// The base, the sizes of all but full, three plans, and three methods with two seeds.
	if hired != 1+2+3+6 || len(store.kept) != hired-1 {
		t.Errorf("%d workers, %d results kept, want 12 and 11", hired, len(store.kept))
	}
	if len(c.Broken) != 1 || !strings.Contains(c.Broken[0], "lora") || !strings.Contains(c.Broken[0], "seed 2") || !strings.Contains(c.Broken[0], "the machine caught fire") {
		t.Errorf("what broke: %q", c.Broken)
	}
	lora := c.Rows[1].On[0]
	if len(lora.Loss.Values) != 1 || len(lora.Failed) != 1 {
		t.Errorf("lora has %v and lacks %q", lora.Loss.Values, lora.Failed)
	}

	// The second call runs what is missing and nothing else; the third runs nothing.
	for i, more := range []int{1, 0} {
		before := hired
		again, err := Run(t.Context(), r, options(store, mark, &hired))
		if err != nil {
			t.Fatal(err)
		}
		if hired != before+more || len(again.Broken) != 0 {
			t.Errorf("call %d: %d workers, want %d; broken: %q", i+2, hired-before, more, again.Broken)
		}
		if got := again.Rows[1].On[0]; len(got.Loss.Values) != 2 || got.Loss.Values[0] != lora.Loss.Values[0] {
			t.Errorf("call %d: lora's losses %v, the first was %v", i+2, got.Loss.Values, lora.Loss.Values)
		}
		c = again
	}

	base, full, paca := c.Sets[0], c.Rows[0].On[0], c.Rows[2].On[0]
	if !(full.Loss.Mean < base.Loss) || full.Trainable != c.Parameters || full.MergeError != nil {
		t.Errorf("full: loss %v from %v, %d of %d trained, merge error %v", full.Loss.Mean, base.Loss, full.Trainable, c.Parameters, full.MergeError)
	}
	// Source and training text are the same here, and learnt.
	if base.SourceLoss == nil || full.SourceLoss == nil || !(full.SourceLoss.Mean < *base.SourceLoss) {
		t.Errorf("source loss %v before, %v after", base.SourceLoss, full.SourceLoss)
	}
	if c.Budget.Trainable != c.Rows[1].On[0].Trainable {
		t.Errorf("the budget is %d, lora trains %d", c.Budget.Trainable, c.Rows[1].On[0].Trainable)
	}
	// Its rank was given, and PaCA writes into the matrices themselves.
	if paca.Settings["rank"] != "2" || paca.MergeError == nil || *paca.MergeError != 0 {
		t.Errorf("paca: settings %v, merge error %v", paca.Settings, paca.MergeError)
	}
}

func TestInterruptionStopsWorkers(t *testing.T) {
	r := tinyRecipe(t)
	r.Data[0].Steps = 1_000_000 // without an end
	ctx, cancel := context.WithCancel(t.Context())
	hired := 0
	o := options(&memory{kept: map[Key][]byte{}}, "", &hired)
	o.Progress = func(_, _ int, note string) {
		if strings.Contains(note, "seed") {
			cancel()
		}
	}
	began := time.Now()
	_, err := Run(ctx, r, o)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the same command goes on") {
		t.Errorf("error %v", err)
	}
	if spent := time.Since(began); spent > grace {
		t.Errorf("the workers took %v to stop", spent)
	}
}

func TestUnfitMethodHasARowThatSaysWhy(t *testing.T) {
	r := tinyRecipe(t)
	m, err := ParseMethod("lora rank=4000")
	if err != nil {
		t.Fatal(err)
	}
	r.Methods, r.Seeds = append(m, r.Methods[0]), 1
	hired := 0
	c, err := Run(t.Context(), r, options(nil, "", &hired))
	if err != nil {
		t.Fatal(err)
	}
	if why := c.Rows[0].On[0].Why; !strings.Contains(why, "rank 4000 is larger than layer") || c.Rows[0].On[0].Measured() {
		t.Errorf("the row says %q", why)
	}
	if !c.Rows[1].On[0].Measured() || len(c.Broken) != 0 {
		t.Errorf("full is not measured; broken: %q", c.Broken)
	}
}

// Rates climb beyond the three that are tried first while the loss falls, and no rung is
// tried twice.
func TestClimb(t *testing.T) {
	for _, c := range []struct {
		loss  []float64
		best  int
		tried int
	}{
		{[]float64{9, 8, 7, 2, 1, 3, 9, 9, 9}, 4, 3},
		{[]float64{9, 8, 7, 6, 5, 4, 3, 9, 9}, 6, 5},
		{[]float64{9, 8, 7, 6, 5, 4, 3, 2, 1}, 8, 6},
		{[]float64{9, 1, 2, 3, 4, 5, 6, 7, 8}, 1, 6},
		{[]float64{1, 2, 3, math.Inf(1), math.Inf(1), math.Inf(1), 9, 9, 9}, 0, 6},
		{slices.Repeat([]float64{math.Inf(1)}, 9), 0, 6},
	} {
		tried := map[int]int{}
		best, least := climb(len(c.loss), func(rungs ...int) []float64 {
			var out []float64
			for _, i := range rungs {
				tried[i]++
				out = append(out, c.loss[i])
			}
			return out
		})
		if best != c.best || least != c.loss[c.best] || len(tried) != c.tried || slices.Max(slices.Collect(maps.Values(tried))) > 1 {
			t.Errorf("%v: rung %d with %g after %v", c.loss, best, least, tried)
		}
	}
}

func TestEndsOfWhatAWorkerSays(t *testing.T) {
	var e ends
	fmt.Fprint(&e, "panic: no more\n\n")
	for range 1000 {
		fmt.Fprint(&e, "trace\n")
	}
	fmt.Fprint(&e, "exit")
	if got := e.String(); !strings.HasPrefix(got, "panic: no more trace") || !strings.HasSuffix(got, "trace exit") || !strings.Contains(got, " … ") || len(got) > 2*endBytes+5 {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}

// Whoever asked first enters first, within the places and the memory.
func TestFloorKeepsItsLimits(t *testing.T) {
	f := &floor{places: 3, memory: 10}
	var order []int
	leaves := map[int]func(){}
	var mu sync.Mutex
	var wg sync.WaitGroup
	enter := func(i int, bytes int64) {
		wg.Go(func() {
			leave, err := f.enter(t.Context(), bytes)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			order, leaves[i] = append(order, i), leave
		})
		time.Sleep(20 * time.Millisecond)
	}
	inside := func() []int {
		time.Sleep(20 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
	enter(0, 4)
	enter(1, 5)
	enter(2, 4)  // no memory for it
	enter(3, 1)  // would fit, but waits its turn
	enter(4, 99) // more than there is: alone
	if got := inside(); !slices.Equal(got, []int{0, 1}) {
		t.Errorf("inside: %v", got)
	}
	leaves[0]()
	if got := inside(); !slices.Equal(got, []int{0, 1, 2, 3}) && !slices.Equal(got, []int{0, 1, 3, 2}) {
		t.Errorf("after one left: %v", got)
	}
	for _, i := range []int{1, 2, 3} {
		leaves[i]()
	}
	if got := inside(); len(got) != 5 || got[4] != 4 {
		t.Errorf("in the end: %v", got)
	}
	leaves[4]()
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.enter(ctx, 1); !errors.Is(err, context.Canceled) || f.busy != 0 || f.held != 0 {
		t.Errorf("after the end: %v, %d busy with %d bytes", err, f.busy, f.held)
	}
}
