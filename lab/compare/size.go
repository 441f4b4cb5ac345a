package compare

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"

	"tare/engine/model"
	"tare/engine/train"
	"tare/lab/tuning"
	"tare/method/adapt"
)

// fit finds the method's size by how many entries train.
func (k *desk) fit(ctx context.Context) (Result, error) {
	options, note, err := k.size(ctx, k.recipe())
	if err != nil {
		return k.unfit(ctx, err)
	}
	return Result{Options: options, Note: note}, nil
}

// plan trains a few steps, which shows whether the method runs and what it takes, and
// finds how long it trains. By a budget of memory it finds the method's size before.
func (k *desk) plan(ctx context.Context) (Result, error) {
	r := k.recipe()
	var note string
	if r.Method != tuning.Full && k.task.Budget.Peak > 0 {
		var err error
		if r.Options, note, err = k.size(ctx, r); err != nil {
			return k.unfit(ctx, err)
		}
	}
	const steps = 3
	p, err := k.probe(ctx, r, steps)
	if err != nil {
		return k.unfit(ctx, err)
	}
	if limit := k.task.Budget.Peak; limit > 0 && p.Peak.Total > limit {
		return Result{Unfit: fmt.Sprintf("a step takes %.1f MiB, the budget is %.1f MiB", mib(p.Peak.Total), mib(limit))}, nil
	}
	p.Options, p.Note, p.Steps = r.Options, note, k.task.Data.Steps
	if s := k.task.Budget.Seconds; s > 0 {
		p.Steps = int((s - p.Seconds) / p.StepSeconds)
		if p.Steps < 1 {
			return Result{Unfit: fmt.Sprintf("a step takes %.2g s after %.2g s of preparation, the budget is %g s", p.StepSeconds, p.Seconds, s)}, nil
		}
	}
	return p, nil
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// unfit turns a method's error into the reason for its empty row.
func (k *desk) unfit(ctx context.Context, err error) (Result, error) {
	if ctx.Err() != nil {
		return Result{}, ctx.Err()
	}
	return Result{Unfit: err.Error()}, nil
}

// errNoSize says that a method has no size to choose.
var errNoSize = errors.New("no size")

// size chooses the method's size: its rank, or whichever whole number among its settings
// changes how many entries train. Settings that name it are left alone.
func (k *desk) size(ctx context.Context, r tuning.Recipe) (map[string]string, string, error) {
	s := &sizer{recipe: r, counts: map[int]counted{}}
	var err error
	if s.model, err = model.LoadCausal(k.folder.Config, k.folder, model.LoadOptions{}); err != nil {
		return nil, "", err
	}
	switch err := s.choose(); {
	case errors.Is(err, errNoSize):
		return r.Options, "has no rank to choose", nil
	case err != nil:
		return nil, "", err
	}
	if _, given := r.Options[s.name]; given {
		return r.Options, "", nil
	}
	var best int
	if k.task.Budget.Peak > 0 {
		best, err = s.largest(func(v int) (bool, error) {
			r.Options = s.with(v)
			p, err := k.probe(ctx, r, 1)
			return err == nil && p.Peak.Total <= k.task.Budget.Peak, ctx.Err()
		})
	} else {
		best, err = s.nearest(k.task.Budget.Trainable)
	}
	if err != nil {
		return nil, "", err
	}
	return s.with(best), "", nil
}

// sizer searches the values of one setting.
type sizer struct {
	recipe tuning.Recipe
	model  model.Causal
	name   string // the setting
	start  int    // its default
	counts map[int]counted
}

type counted struct {
	n   int64
	err error
}

// with returns the settings with that size.
func (s *sizer) with(v int) map[string]string {
	o := maps.Clone(s.recipe.Options)
	if o == nil {
		o = map[string]string{}
	}
	o[s.name] = strconv.Itoa(v)
	return o
}

// rankName is what most methods call their size.
const rankName = "rank"

// choose finds which setting is the size. A rank is, where there is one; otherwise the
// first whole number that changes how many entries train.
func (s *sizer) choose() error {
	whole, err := wholeSettings(s.recipe.Method, s.recipe.Options)
	if err != nil {
		return err
	}
	if v, ok := whole[rankName]; ok {
		s.name, s.start = rankName, v
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(whole)) {
		s.name, s.start = name, max(1, whole[name])
		a, b := s.count(s.start), s.count(2*s.start)
		if clear(s.counts); a.err == nil && b.err == nil && a.n != b.n {
			return nil
		}
	}
	return errNoSize
}

// wholeSettings returns a method's settings that are whole numbers, with their defaults,
// and below them those of the method that it goes over.
func wholeSettings(method string, asked map[string]string) (map[string]int, error) {
	m, err := adapt.ByName(method)
	if err != nil {
		return nil, err
	}
	o := m.New()
	if err := tuning.SetOptions(o, asked); err != nil {
		return nil, err
	}
	whole := map[string]int{}
	for {
		if err := addWhole(whole, o); err != nil {
			return nil, err
		}
		outer, over := o.(adapt.Outer)
		if !over {
			return whole, nil
		}
		if o, err = outer.Inside(); err != nil {
			return nil, err
		}
	}
}

// addWhole adds the settings of one method that have no namesake above.
func addWhole(whole map[string]int, o adapt.Options) error {
	raw, err := yaml.Marshal(o)
	if err != nil {
		return err
	}
	var all map[string]any
	if err := yaml.Unmarshal(raw, &all); err != nil {
		return err
	}
	for name, v := range all {
		if _, above := whole[name]; above {
			continue
		}
		switch v := v.(type) {
		case uint64:
			whole[name] = int(v)
		case int64:
			whole[name] = int(v)
		}
	}
	return nil
}

// count attaches the method with that size, counts what trains and takes it off again.
func (s *sizer) count(v int) counted {
	if c, ok := s.counts[v]; ok {
		return c
	}
	n, err := countTrained(s.model, s.recipe.Method, s.with(v), s.recipe.Targets)
	s.counts[v] = counted{n, err}
	return s.counts[v]
}

func countTrained(m model.Causal, method string, options map[string]string, targets []string) (int64, error) {
	row, err := adapt.ByName(method)
	if err != nil {
		return 0, err
	}
	o := row.New()
	if err := tuning.SetOptions(o, options); err != nil {
		return 0, err
	}
	a, err := adapt.Attach(m, row, o, targets, 0)
	if err != nil {
		return 0, err
	}
	defer a.Detach()
	return train.Trainable(m.Params()), nil
}

// limit is the largest size that is tried: beyond the longest side of a layer a rank
// means nothing, but to methods whose default is there.
func (s *sizer) limit() int {
	n := max(1, s.start)
	for _, l := range s.model.Linears() {
		if l.Name != "lm_head" {
			out, in := l.Weight.Dims()
			n = max(n, out, in)
		}
	}
	return n
}

// nearest returns the size whose count comes nearest to want: along the straight line
// through two counts where that leads there, else by powers of two, between them, and
// about the best of them, since counts that are rounded up may fall as a size grows.
func (s *sizer) nearest(want int64) (int, error) {
	at := max(1, s.start)
	if c := s.count(at); c.err == nil && c.n > 0 {
		s.follow(at, want)
	}
	best := s.best(want)
	if best == 0 || s.loose(best, want) {
		s.sweep(want)
		best = s.best(want)
	}
	if best == 0 {
		return 0, s.count(max(1, s.start)).err
	}
	if s.loose(best, want) {
		s.look(best)
		best = s.best(want)
	}
	return best, nil
}

// loose reports whether a size may not be the nearest: it is further off than a fiftieth,
// and want does not lie close by, between it and a neighbour.
func (s *sizer) loose(best int, want int64) bool {
	switch off := s.off(best, want); {
	case off <= 0.02:
		return false
	case off > 0.1:
		return true
	}
	for _, next := range []int{best - 1, best + 1} {
		c, counted := s.counts[next]
		if counted && c.err == nil && (c.n > want) != (s.counts[best].n > want) {
			return false
		}
	}
	return true
}

// off is how far a size's count is from want, as a fraction.
func (s *sizer) off(v int, want int64) float64 {
	return math.Abs(float64(s.count(v).n-want)) / float64(want)
}

// look counts at the next sizes on both sides, because a count may rise and fall as a
// rank divides the layers well or badly. A side on which nothing changes is left.
func (s *sizer) look(v int) {
	const far = 3
	n := s.count(v).n
	for _, side := range []int{1, -1} {
		for d := 1; d <= far; d++ {
			at := v + side*d
			if at < 1 || at > s.limit() || s.count(at).n == n {
				break
			}
		}
	}
}

// follow walks the secant: v₂ = v₁ + (want − n₁)(v₁ − v₀)/(n₁ − n₀), in strides of at
// most a factor of four, because some methods decompose the layers and large sizes take
// them long.
func (s *sizer) follow(v0 int, want int64) {
	v1 := min(2*v0, s.limit())
	for range 8 {
		a, b := s.count(v0), s.count(v1)
		if b.err != nil || a.n == b.n {
			return
		}
		next := v1 + int(math.Round(float64(want-b.n)*float64(v1-v0)/float64(b.n-a.n)))
		next = min(max(next, 1), 4*max(v0, v1), s.limit())
		if _, seen := s.counts[next]; seen {
			return
		}
		v0, v1 = v1, next
	}
}

// sweep counts at powers of two, until the count is well beyond what is wanted or levels
// off, then halves the stretch that want lies in.
func (s *sizer) sweep(want int64) {
	var fit []int
	for v := 1; v <= s.limit(); v *= 2 {
		if c := s.count(v); c.err == nil {
			fit = append(fit, v)
			if k := len(fit); k > 1 && s.enough(s.count(fit[k-2]).n, c.n, want) {
				break
			}
		}
	}
	for i := 1; i < len(fit); i++ {
		lo, hi := fit[i-1], fit[i]
		if above := s.count(lo).n > want; above == (s.count(hi).n > want) {
			continue
		}
		for hi-lo > 1 {
			mid := s.fitting(lo, hi)
			if mid == 0 {
				break
			}
			if (s.count(mid).n > want) == (s.count(lo).n > want) {
				lo = mid
			} else {
				hi = mid
			}
		}
	}
}

// enough reports whether counts that went from before to now will hardly come nearer to
// want.
func (s *sizer) enough(before, now, want int64) bool {
	level := math.Abs(float64(now-before)) < 0.02*float64(before)
	return level || now > before && now > 2*want
}

// fitting returns a size strictly between two, near their middle, that fits every layer;
// 0 for none.
func (s *sizer) fitting(lo, hi int) int {
	mid := (lo + hi) / 2
	for d := 0; mid-d > lo || mid+d < hi; d++ {
		for _, v := range []int{mid + d, mid - d} {
			if v > lo && v < hi && s.count(v).err == nil {
				return v
			}
		}
	}
	return 0
}

// best returns the size counted that is nearest to want, the smaller of two equals; 0
// where none fits.
func (s *sizer) best(want int64) int {
	best, least := 0, int64(math.MaxInt64)
	for _, v := range slices.Sorted(maps.Keys(s.counts)) {
		c := s.counts[v]
		if d := max(c.n-want, want-c.n); c.err == nil && c.n > 0 && d < least {
			best, least = v, d
		}
	}
	return best
}

// largest returns the largest size that fits, which it takes to be so for all below:
// it doubles while that holds and halves what remains.
func (s *sizer) largest(fits func(v int) (bool, error)) (int, error) {
	lo, hi := 0, 1
	for hi <= s.limit() {
		ok, err := fits(hi)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		lo, hi = hi, 2*hi
	}
	if lo == 0 {
		if c := s.count(1); c.err != nil {
			return 0, c.err
		}
		return 0, fmt.Errorf("even at %s 1 a step takes more memory than the budget", s.name)
	}
	for hi = min(hi, s.limit()+1); hi-lo > 1; {
		mid := (lo + hi) / 2
		ok, err := fits(mid)
		if err != nil {
			return 0, err
		}
		if ok {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo, nil
}
