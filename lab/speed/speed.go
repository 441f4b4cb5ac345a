// Package speed measures how fast the engine and the formats work on this machine,
// with peers that do the same work beside them where they are installed.
//
// A [Work] is a list of cases; a case prepares itself and returns a step to time.
// Its repetitions and those of its peers alternate, so that what else the machine
// does meets all of them alike. Rates are amounts a second: higher is better, and a
// ratio is always Tare's median over the peer's. Where memory is compared less is
// better, and the ratio is the peer's over Tare's: above 1 Tare is better in both.
package speed

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"tare/engine/nearest"
	"tare/engine/tensor/kernel"
)

// Work is a family of cases.
type Work struct {
	Name  string
	About string
	jobs  func(o Options, threads []int) []job
}

// Works lists what is measured, in the order of the table.
func Works() []Work {
	return []Work{
		{"gemm", "product of f32 matrices, m x k x n; T marks an operand that is stored transposed", gemmJobs},
		{"step", "training step of a llama with AdamW: forward, loss, backward, update; in f32 and with bf16 products", stepJobs},
		{"lora", "the same step training LoRA of rank 8 on all linear layers", loraJobs},
		{"paca", "the same step training 8 columns of each linear layer", pacaJobs},
		{"peak", "the most memory that these steps hold, in a process of their own", peakJobs},
		{"attention", "causal attention, forward, and forward with backward", attentionJobs},
		{"memory", "reading memory, the limit of decoding", memoryJobs},
		{"decode", "greedy decoding of a llama held as f32, bf16 and 4-bit", decodeJobs},
		{"open", "opening a 2 GB checkpoint: every header checked, every tensor reachable", openJobs},
		{"quantize", "rounding a bf16 checkpoint to 4 bits, from disk to disk, in MB of the source", quantizeJobs},
		{"merge", "linear and TIES merges of two bf16 checkpoints, from disk to disk, in MB of the result", mergeJobs},
	}
}

// ErrWork marks a name that is none of Works.
var ErrWork = errors.New("no such work")

// Options says what is measured and how long.
type Options struct {
	Only    []string // names of Works; none means all
	Shapes  [][3]int // m, k, n of products to time instead of the standard ones
	Reps    int      // repetitions; 0 means 7, 3 when Quick
	Quick   bool     // short repetitions and a short trial of the peers' settings
	NoPeers bool
	Python  string   // interpreter that peers run in
	Trials  string   // folder that keeps which of PyTorch's settings are fastest; empty for none
	Llama   string   // program that decodes with llama.cpp; empty for none
	Peak    []string // command that prints PeakOf its last argument; nil where memory is not measured

	// Progress, if set, is told before each case which one it is.
	Progress func(done, total int, name string)
	// Result, if set, gets the rows of each case when it is done.
	Result func([]Row)
	// Log, if set, gets remarks: which peers are left out and why.
	Log func(line string)
}

// Row is the result of a case beside one peer, or beside none.
type Row struct {
	Work    string  `json:"work"`
	Shape   string  `json:"shape"`
	Threads int     `json:"threads"`
	Rate    float64 `json:"rate"` // median
	Unit    string  `json:"unit"`
	Peer    string  `json:"peer"` // empty where none is installed

	PeerRate *float64 `json:"peer_rate"` // median
	Ratio    *float64 `json:"ratio"`     // above 1 Tare is better: Rate over PeerRate, the inverse where less is better
	Runs     int      `json:"runs"`

	Min         float64  `json:"min"`
	Max         float64  `json:"max"`
	PeerMin     *float64 `json:"peer_min,omitempty"`
	PeerMax     *float64 `json:"peer_max,omitempty"`
	PeerVersion string   `json:"peer_version,omitempty"`
	PeerSetting string   `json:"peer_setting,omitempty"`

	WeightsRead float64 `json:"weights_gb_s,omitempty"` // GB/s of weights that decoding reads
	MemoryRead  float64 `json:"memory_gb_s,omitempty"`  // GB/s that memory gave beside it
}

// job is one case. A step does amount of the unit, which is a rate's without "/s".
type job struct {
	work, shape, unit string
	threads           int
	amount            float64
	prepare           func(ctx context.Context, h *host) (step func() error, done func(), err error)
	own               func(ctx context.Context, h *host) (*runner, error)   // in place of prepare, for what is no rate of steps
	peers             func(ctx context.Context, h *host) ([]*runner, error) // nil for none
	weights           func() int64                                          // bytes of weights that a step reads; nil where that is not the measure
	less              bool                                                  // amounts are compared, not rates: less is better
	reps              int                                                   // repetitions that do without one to warm up; 0 for the usual ones
}

func (j job) name() string {
	return fmt.Sprintf("%s %s, %s", j.work, j.shape, threadsText(j.threads))
}

func threadsText(n int) string {
	if n == 1 {
		return "1 thread"
	}
	return fmt.Sprintf("%d threads", n)
}

// Run measures and returns the rows in the order of Works.
func Run(ctx context.Context, o Options) ([]Row, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	all := kernel.Threads()
	defer kernel.SetThreads(all)
	jobs := o.jobs(all)
	h, err := newHost(o)
	if err != nil {
		return nil, err
	}
	defer h.close()
	var rows []Row
	for i, j := range jobs {
		if o.Progress != nil {
			o.Progress(i, len(jobs), j.name())
		}
		found, err := h.measure(ctx, j)
		if err != nil {
			return rows, fmt.Errorf("speed: %s: %w", j.name(), err)
		}
		if o.Result != nil {
			o.Result(found)
		}
		rows = append(rows, found...)
	}
	return rows, nil
}

// check refuses names that are none of Works.
func (o Options) check() error {
	var known []string
	for _, w := range Works() {
		known = append(known, w.Name)
	}
	for _, name := range o.Only {
		if slices.Contains(known, name) {
			continue
		}
		hint := ""
		if near := nearest.Of(name, known); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		return fmt.Errorf("%w as %q (known: %s)%s", ErrWork, name, strings.Join(known, ", "), hint)
	}
	for _, s := range o.Shapes {
		if min(s[0], s[1], s[2]) < 1 {
			return fmt.Errorf("speed: a product of shape %v, want three positive sizes", s)
		}
	}
	return nil
}

// jobs lists the cases that were asked for, each on one thread and on all.
func (o Options) jobs(all int) []job {
	threads := []int{1}
	if all > 1 {
		threads = append(threads, all)
	}
	var jobs []job
	for _, w := range Works() {
		if o.Only != nil && !slices.Contains(o.Only, w.Name) {
			continue
		}
		for _, j := range w.jobs(o, threads) {
			j.work = w.Name
			jobs = append(jobs, j)
		}
	}
	return jobs
}

// host is what the cases of a run share.
type host struct {
	o       Options
	dir     string // temporary
	reps    int
	seconds float64 // least time of a repetition

	gemm, attention shared          // peers of all products and attentions
	written         map[string]bool // files that are complete
	said            map[string]bool // remarks
	scratch         models
}

// shared is a process that is started at the first case that asks for it.
type shared struct {
	process *process
	err     error // why there is none
}

func newHost(o Options) (*host, error) {
	dir, err := os.MkdirTemp("", "tare-bench-")
	if err != nil {
		return nil, fmt.Errorf("speed: %w", err)
	}
	h := &host{o: o, dir: dir, reps: o.Reps, seconds: 0.3, said: map[string]bool{}, written: map[string]bool{}}
	if o.Quick {
		h.seconds = 0.05
	}
	if h.reps == 0 {
		h.reps = 7
		if o.Quick {
			h.reps = 3
		}
	}
	return h, nil
}

func (h *host) close() {
	h.gemm.process.close()
	h.attention.process.close()
	os.RemoveAll(h.dir)
}

// remark logs a line once.
func (h *host) remark(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if h.o.Log != nil && !h.said[line] {
		h.o.Log(line)
	}
	h.said[line] = true
}

// runner times one contender of a case.
type runner struct {
	name, version, setting string
	sample                 func() (rate float64, err error)
	close                  func()
	gauge                  bool // measures the machine, not a contender

	rates []float64
}

// settle is the pause before each repetition: the threads of the contender before
// spin for a while before they sleep, and must not take this one's cores.
const settle = 100 * time.Millisecond

// measure runs a case: all contenders once to warm up, then in turn.
func (h *host) measure(ctx context.Context, j job) ([]Row, error) {
	kernel.SetThreads(j.threads)
	own, done, err := j.ours(ctx, h)
	if err != nil {
		return nil, err
	}
	if done != nil {
		defer done()
	}
	if own == nil {
		return nil, nil
	}
	contenders := append([]*runner{own}, h.peersOf(ctx, j)...)
	defer func() {
		for _, c := range contenders {
			if c.close != nil {
				c.close()
			}
		}
	}()
	runtime.GC()
	reps, warm := h.reps+1, 1
	if j.reps > 0 {
		reps, warm = min(h.reps, j.reps), 0
	}
	for rep := range reps {
		for i := range contenders {
			c := contenders[(i+rep)%len(contenders)] // nobody is always first
			time.Sleep(settle)
			rate, err := c.sample()
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case err != nil && c == own:
				return nil, err
			case err != nil:
				h.remark("%s: %s fails and is left out: %v", j.name(), c.name, err)
				c.rates, c.sample = nil, func() (float64, error) { return 0, nil }
			case rep >= warm && rate > 0:
				c.rates = append(c.rates, rate)
			}
		}
	}
	return j.rows(own, contenders[1:]), nil
}

// ours prepares Tare's side of a case; nil where this system cannot measure it, with a
// remark that says why.
func (j job) ours(ctx context.Context, h *host) (own *runner, done func(), err error) {
	if j.own == nil {
		step, done, err := j.prepare(ctx, h)
		return &runner{sample: h.sampler(ctx, step, j.amount)}, done, err
	}
	if own, err = j.own(ctx, h); err != nil {
		h.remark("%s is not measured: %v", j.work, err)
	}
	return own, nil, nil
}

// peersOf starts the case's peers; those that are not installed are remarked on.
func (h *host) peersOf(ctx context.Context, j job) []*runner {
	var peers []*runner
	if j.weights != nil {
		peers = append(peers, h.memoryGauge(ctx))
	}
	if j.peers == nil || h.o.NoPeers {
		return peers
	}
	found, err := j.peers(ctx, h)
	if err != nil && ctx.Err() == nil {
		h.remark("%s: no peer beside: %v", j.work, err)
	}
	return append(peers, found...)
}

// sampler returns a function that repeats a step for the time of a repetition and
// returns its rate.
func (h *host) sampler(ctx context.Context, step func() error, amount float64) func() (float64, error) {
	return func() (float64, error) {
		n, began := 0, time.Now()
		for {
			if err := ctx.Err(); err != nil {
				return 0, err
			}
			if err := step(); err != nil {
				return 0, err
			}
			n++
			if spent := time.Since(began).Seconds(); spent >= h.seconds {
				return amount * float64(n) / spent, nil
			}
		}
	}
}

// rows returns one row for each peer that was measured, or one without.
func (j job) rows(own *runner, others []*runner) []Row {
	row := Row{Work: j.work, Shape: j.shape, Threads: j.threads, Unit: j.unit, Runs: len(own.rates),
		Rate: median(own.rates), Min: slices.Min(own.rates), Max: slices.Max(own.rates)}
	if !j.less {
		row.Unit += "/s"
	}
	var rows []Row
	for _, c := range others {
		if c.gauge && len(c.rates) > 0 {
			row.MemoryRead = median(c.rates)
			row.WeightsRead = row.Rate / j.amount * float64(j.weights()) / 1e9
		}
	}
	for _, c := range others {
		if c.gauge || len(c.rates) == 0 {
			continue
		}
		r := row
		rate, lo, hi := median(c.rates), slices.Min(c.rates), slices.Max(c.rates)
		ratio := row.Rate / rate
		if j.less {
			ratio = 1 / ratio
		}
		r.Peer, r.PeerVersion, r.PeerSetting = c.name, c.version, c.setting
		r.PeerRate, r.PeerMin, r.PeerMax, r.Ratio = &rate, &lo, &hi, &ratio
		rows = append(rows, r)
	}
	if rows == nil {
		rows = []Row{row}
	}
	return rows
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}
