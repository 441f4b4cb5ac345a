package compare

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tare/engine/model"
	"tare/engine/tensor/kernel"
	"tare/lab"
	"tare/lab/meminfo"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// Options say how a comparison is run.
type Options struct {
	// Worker makes the command of a worker process, which calls Work.
	Worker func() *exec.Cmd
	// Workers is how many run at once; 0 means one a core.
	Workers int
	// Memory is what all workers together may take, by the ledger's estimate; 0 means
	// four fifths of what the system has available.
	Memory int64
	// Store keeps what is measured; nil keeps nothing.
	Store Store
	// Progress is told of every cell that ends, and of what runs; may be nil.
	Progress func(done, total int, note string)
	// Log takes lines that are worth reading after the run; may be nil.
	Log func(line string)
}

// rates is the ladder that a learning rate is chosen on: it begins in the middle and
// climbs while the loss on the validation split falls.
var rates = []float64{0.0001, 0.0002, 0.0005, 0.0015, 0.004, 0.01, 0.025, 0.06, 0.15}

// session is one call of Run.
type session struct {
	r      Recipe
	o      Options
	floor  *floor
	base   string            // hash
	data   map[string]string // hashes by set
	params int64             // of the base
	commit string
	cpu    string

	mu          sync.Mutex
	done, total int
	running     []string
	broken      []string // cells whose worker died or failed
	spent       float64
}

// Run measures what r asks for and is not in the store yet. When ctx ends the workers
// stop, what was measured stays in the store, and the error wraps ctx's; the same call
// goes on. A worker that dies costs its cell alone: the comparison names it and ends.
func Run(ctx context.Context, r Recipe, o Options) (*Comparison, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	s := &session{r: r, o: o, data: map[string]string{}, cpu: lab.CPU()}
	c := &Comparison{Base: r.Base, Targets: r.Targets, Seeds: r.Seeds, Source: r.Source, CPU: s.cpu, Started: time.Now().UTC()}
	if err := s.open(); err != nil {
		return nil, err
	}
	c.Budget, c.BaseHash, c.Parameters = s.r.Budget, s.base, s.params
	c.Commit, c.Modified = lab.Commit()
	s.commit = sourceVersion(c.Commit, c.Modified)
	workers, memory := o.Workers, o.Memory
	if workers == 0 {
		workers = kernel.Threads()
	}
	if memory == 0 {
		free, _ := meminfo.Available()
		memory = free * 4 / 5
	}
	c.Workers, s.floor = workers, &floor{places: workers, memory: memory}
	err := s.measure(ctx, c)
	c.Seconds, c.Broken = s.spent, s.broken
	if ctx.Err() != nil {
		return nil, s.stopped(ctx.Err())
	}
	return c, err
}

func (s *session) stopped(err error) error {
	if s.o.Store == nil {
		return fmt.Errorf("compare: stopped with %d of about %d cells done, none kept: %w", s.done, s.total, err)
	}
	return fmt.Errorf("compare: stopped with %d of about %d cells done and kept; the same command goes on: %w", s.done, s.total, err)
}

// open hashes the base and the data and settles the budget.
func (s *session) open() error {
	f, tok, tokenizer, err := openBase(s.r.Base)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.base, err = baseHash(f, tokenizer); err != nil {
		return err
	}
	m, err := model.LoadCausal(f.Config, f, model.LoadOptions{Keep: true})
	if err != nil {
		return err
	}
	if n := m.Info().VocabSize; tok.VocabSize() > n {
		return fmt.Errorf("compare: %s: tokenizer.json has %d entries, the model's vocab_size is %d; they belong to different models: %w", s.r.Base, tok.VocabSize(), n, model.ErrConfig)
	}
	for _, p := range m.Params() {
		s.params += int64(p.Value.Len())
	}
	source := ""
	if s.r.Source != "" {
		if source, err = openSource(s.r.Source); err != nil {
			return err
		}
	}
	for _, d := range s.r.Data {
		if limit := m.Info().MaxPositions; d.SeqLen > limit {
			return fmt.Errorf("compare: %w: data %s: seq_len is %d, the model has %d positions", ErrRecipe, d.Name, d.SeqLen, limit)
		}
		set, err := openSet(d.Name)
		if err != nil {
			return err
		}
		own, err := set.hash()
		if err != nil {
			return err
		}
		h := sha256.Sum256([]byte(own + source))
		s.data[d.Name] = hex.EncodeToString(h[:])
	}
	if b := &s.r.Budget; b.Trainable == 0 && b.Peak == 0 {
		// The yardstick of papers on few weights: what LoRA trains at its usual rank.
		if b.Trainable, err = countTrained(m, "lora", nil, s.r.Targets); err != nil && !errors.Is(err, adapt.ErrFit) {
			return err
		} else if err != nil {
			return fmt.Errorf("compare: %w: name a budget, because the usual one, what lora trains at its default rank, does not fit this model: %w", ErrRecipe, err)
		}
	}
	return nil
}

// sourceVersion is the commit, and where the source differs from it a hash of this
// program.
func sourceVersion(commit string, modified bool) string {
	if !modified && commit != "unknown" {
		return commit
	}
	self, err := os.Executable()
	if err != nil {
		return commit
	}
	f, err := os.Open(self)
	if err != nil {
		return commit
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return commit
	}
	return commit + " as " + hex.EncodeToString(h.Sum(nil)[:8])
}

// usual is how many rates a ladder takes before one is found.
const usual = 4

// measure runs all cells, each pair of a method and a set by itself.
func (s *session) measure(ctx context.Context, c *Comparison) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.total = len(s.r.Data) * (1 + len(s.r.Methods)*(1+usual+s.r.Seeds))
	if s.r.Budget.Peak == 0 {
		s.total += len(s.r.Methods)
	}
	c.Sets = make([]SetResult, len(s.r.Data))
	for _, m := range s.r.Methods {
		c.Rows = append(c.Rows, Row{Name: m.label(), Method: m.Name, asked: m, On: make([]Cell, len(s.r.Data))})
	}
	var wg sync.WaitGroup
	for i, d := range s.r.Data {
		wg.Go(func() {
			set, err := s.baseOf(ctx, d)
			if c.Sets[i] = set; errors.Is(err, errStore) {
				cancel(err)
			}
		})
	}
	for j := range c.Rows {
		size := sync.OnceValues(func() (Result, error) { return s.size(ctx, c.Rows[j].asked) })
		for i, d := range s.r.Data {
			wg.Go(func() {
				cell, err := s.cell(ctx, c.Rows[j].asked, size, d)
				if c.Rows[j].On[i] = cell; err != nil {
					cancel(err)
				}
			})
		}
	}
	wg.Wait()
	for j := range c.Rows {
		c.Rows[j].settle()
	}
	return context.Cause(ctx)
}

// baseOf measures the base on a set.
func (s *session) baseOf(ctx context.Context, d Data) (SetResult, error) {
	set := SetResult{Data: d}
	r, err := s.do(ctx, Task{Kind: kindBase, Data: d}, "base on "+filepath.Base(d.Name), 0)
	set.Loss, set.Score, set.SourceLoss = r.Loss, r.Score, r.SourceLoss
	return set, err
}

// size finds a method's size where data has no say in it.
func (s *session) size(ctx context.Context, m Method) (Result, error) {
	if s.r.Budget.Peak > 0 {
		return Result{Options: m.Options}, nil
	}
	if m.Name == tuning.Full {
		s.expect(-1)
		return Result{}, nil
	}
	m.LR = 0
	return s.do(ctx, Task{Kind: kindSize, Method: m, Budget: Budget{Trainable: s.r.Budget.Trainable}}, m.Name+", size", s.guess())
}

// cell plans a method on a set, chooses its learning rate and runs all seeds. Its error
// ends the whole comparison; what befell its own tasks stands in the cell.
func (s *session) cell(ctx context.Context, m Method, sized func() (Result, error), d Data) (Cell, error) {
	c := Cell{Set: d.Name}
	name := m.Name + " on " + filepath.Base(d.Name)
	size, err := sized()
	if err != nil || size.Unfit != "" {
		s.expect(-1 - usual - s.r.Seeds)
		return c.failed(ctx, err, size.Unfit)
	}
	trial := Method{Name: m.Name, Options: size.Options}
	plan, err := s.do(ctx, Task{Kind: kindPlan, Data: d, Method: trial, Budget: Budget{Peak: s.r.Budget.Peak, Seconds: s.r.Budget.Seconds}}, name+", plan", s.guess())
	if err != nil || plan.Unfit != "" {
		s.expect(-usual - s.r.Seeds)
		return c.failed(ctx, err, plan.Unfit)
	}
	if plan.Note == "" {
		plan.Note = size.Note
	}
	c.Settings, c.Note, c.Steps = plan.Options, plan.Note, plan.Steps
	m.Options, d.Steps = plan.Options, plan.Steps
	need := plan.Peak.Total*5/4 + 64<<20 // garbage, and the program itself
	switch {
	case m.LR == 0 && s.r.LR > 0:
		m.LR = s.r.LR
		s.expect(-usual)
	case m.LR == 0:
		if m.LR, err = s.rate(ctx, m, d, name, need); err != nil {
			s.expect(-s.r.Seeds)
			return c.failed(ctx, err, "")
		}
	default:
		s.expect(-usual)
	}
	c.LR = m.LR
	results := make([]Result, s.r.Seeds)
	errs := make([]error, s.r.Seeds)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() {
			seed := uint64(i + 1)
			results[i], errs[i] = s.do(ctx, Task{Kind: kindRun, Data: d, Method: m, Seed: seed}, fmt.Sprintf("%s, seed %d", name, seed), need)
		})
	}
	wg.Wait()
	c.fold(results, errs)
	_, err = c.failed(ctx, errors.Join(errs...), "")
	return c, err
}

// errRates says that a method diverges at every learning rate.
var errRates = errors.New("diverges at every learning rate that was tried")

// rate chooses a learning rate with seed 0 on the validation split.
func (s *session) rate(ctx context.Context, m Method, d Data, name string, need int64) (float64, error) {
	errs := make([]error, len(rates))
	tried := 0
	best, loss := climb(len(rates), func(rungs ...int) []float64 {
		tried += len(rungs)
		loss := make([]float64, len(rungs))
		var wg sync.WaitGroup
		for k, i := range rungs {
			wg.Go(func() {
				m := m
				m.LR = rates[i]
				r, err := s.do(ctx, Task{Kind: kindTrial, Data: d, Method: m}, fmt.Sprintf("%s, rate %g", name, m.LR), need)
				if loss[k], errs[i] = r.Loss, err; err != nil || r.Diverged != "" {
					loss[k] = math.Inf(1)
				}
			})
		}
		wg.Wait()
		return loss
	})
	s.expect(tried - usual)
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case math.IsInf(loss, 1):
		return 0, errors.Join(append(errs, errRates)...)
	}
	return rates[best], nil
}

// climb returns the rung of a ladder with the least loss: it tries the middle and both
// its neighbours, and goes on from the end at which the loss is least. Where all are
// infinite it goes down.
func climb(rungs int, losses func(rungs ...int) []float64) (best int, least float64) {
	lo, hi := rungs/2-1, rungs/2+1
	loss := losses(lo, lo+1, hi)
	for {
		at := slices.Index(loss, slices.Min(loss))
		switch {
		case at == 0 && lo > 0:
			lo--
			loss = append(losses(lo), loss...)
		case at == len(loss)-1 && hi < rungs-1:
			hi++
			loss = append(loss, losses(hi)...)
		default:
			return lo + at, loss[at]
		}
	}
}

// guess is what a worker may take before anything was measured: weights, gradients and
// two moments in f32, and some room.
func (s *session) guess() int64 { return 16*s.params + 256<<20 }

// expect corrects how many cells there will be.
func (s *session) expect(more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += more
}

// do returns a task's result: the one in the store, or a worker's.
func (s *session) do(ctx context.Context, t Task, name string, need int64) (Result, error) {
	t.Base, t.Targets = s.r.Base, s.r.Targets
	if t.Kind == kindBase || t.Kind == kindRun {
		t.Source = s.r.Source
	}
	settings, err := t.settings()
	if err != nil {
		return Result{}, err
	}
	key := Key{Base: s.base, Data: s.data[t.Data.Name], Task: settings, Seed: t.Seed, Commit: s.commit, CPU: s.cpu}
	if r, ok, err := s.kept(ctx, key); ok || err != nil {
		s.end("", 0)
		return r, err
	}
	leave, err := s.floor.enter(ctx, need)
	if err != nil {
		return Result{}, err
	}
	defer leave()
	s.begin(name)
	began := time.Now()
	r, err := hire(ctx, s.o.Worker(), t)
	s.end(name, time.Since(began).Seconds())
	if err != nil {
		if ctx.Err() == nil {
			s.breaks(name, err)
		}
		return r, err
	}
	return r, s.keep(ctx, key, r)
}

func (s *session) kept(ctx context.Context, k Key) (r Result, ok bool, err error) {
	if s.o.Store == nil {
		return r, false, nil
	}
	raw, err := s.o.Store.Measured(ctx, k)
	if err != nil || raw == nil {
		return r, false, err
	}
	return r, true, json.Unmarshal(raw, &r)
}

// errStore marks what ends the comparison: a result that cannot be kept.
var errStore = errors.New("keeping a result")

func (s *session) keep(ctx context.Context, k Key, r Result) error {
	if s.o.Store == nil {
		return nil
	}
	raw, err := json.Marshal(r)
	if err == nil {
		// It is finished: an interruption that arrives now must not lose it.
		err = s.o.Store.KeepMeasured(context.WithoutCancel(ctx), k, raw)
	}
	if err != nil {
		return fmt.Errorf("compare: %w: %w", errStore, err)
	}
	return nil
}

func (s *session) begin(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, name)
	s.tell()
}

func (s *session) end(name string, seconds float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = slices.DeleteFunc(s.running, func(n string) bool { return n == name })
	s.done++
	s.spent += seconds
	s.tell()
}

func (s *session) tell() {
	if s.o.Progress == nil {
		return
	}
	note := ""
	if len(s.running) > 0 {
		note = "(" + s.running[0]
		if n := len(s.running) - 1; n > 0 {
			note += fmt.Sprintf(" and %d more", n)
		}
		note += ")"
	}
	s.o.Progress(s.done, max(s.total, s.done), note)
}

func (s *session) breaks(name string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := fmt.Sprintf("%s: %v", name, err)
	s.broken = append(s.broken, line)
	if s.o.Log != nil {
		s.o.Log(line)
	}
}
