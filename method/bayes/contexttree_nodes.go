package bayes

import (
	"math"
	"slices"
)

// tree holds the contexts that occurred. A node's odds
//
//	log β(s) = log γ P_e(s) − log (1−γ) Π_c P(cs)
//
// are all of the past that a step needs: with e and c what the node's own estimator and
// the child on the path say of a letter, P says (β e + c)/(β + 1), and after that letter β
// is multiplied by e/c.
type tree struct {
	letters, contexts, depth int
	alpha, logOdds           float64 // log γ/(1−γ), the odds before any letter

	counts []float64 // [nodes, letters]
	odds   []float64 // log β
	symbol []int32   // that leads from the parent to this node
	child  []int32   // the first one, 0 for none: the root is nobody's child
	next   []int32   // sibling
	path   []int32   // that learn walked
}

func newTree(letters int, o *ContextTree) *tree {
	t := &tree{letters: letters, contexts: o.Symbols, depth: o.Depth, alpha: o.Alpha, logOdds: math.Log(o.Stop) - math.Log1p(-o.Stop)}
	t.add(-1, 0)
	return t
}

// add makes a node, a child of parent unless that is negative.
func (t *tree) add(parent, symbol int32) int32 {
	at := int32(len(t.odds))
	t.odds = append(t.odds, t.logOdds)
	t.counts = append(t.counts, make([]float64, t.letters)...)
	t.symbol, t.child, t.next = append(t.symbol, symbol), append(t.child, 0), append(t.next, 0)
	if parent >= 0 {
		t.next[at], t.child[parent] = t.child[parent], at
	}
	return at
}

// find returns the child by a symbol, or 0.
func (t *tree) find(at, symbol int32) int32 {
	for at = t.child[at]; at != 0 && t.symbol[at] != symbol; at = t.next[at] {
	}
	return at
}

// back is the symbol so many steps before the end of past; before its beginning there is
// one symbol more than the alphabet has.
func (t *tree) back(past []int, steps int) int32 {
	if steps > len(past) {
		return int32(t.contexts)
	}
	return int32(past[len(past)-steps])
}

// walk appends the nodes of a context to path, from the root down; grow adds those that
// are missing.
func (t *tree) walk(path []int32, past []int, grow bool) []int32 {
	path = append(path, 0)
	at := int32(0)
	for d := 1; d <= t.depth; d++ {
		symbol := t.back(past, d)
		next := t.find(at, symbol)
		if next == 0 {
			if !grow {
				break
			}
			next = t.add(at, symbol)
		}
		at = next
		path = append(path, at)
	}
	return path
}

// estimate is what a node's own mixture says of a letter.
func (t *tree) estimate(node int32, letter int) float64 {
	a := t.counts[int(node)*t.letters:][:t.letters]
	n := float64(t.letters) * t.alpha
	for _, v := range a {
		n += v
	}
	return (a[letter] + t.alpha) / n
}

// learn counts a letter after past and returns the log of the probability that it had.
func (t *tree) learn(past []int, letter int) float64 {
	t.path = t.walk(t.path[:0], past, true)
	q := 0.0
	for d, node := range slices.Backward(t.path) {
		e := t.estimate(node, letter)
		if d == t.depth {
			q = e
		} else {
			p := mixed(t.odds[node], e, q)
			t.odds[node] += math.Log(e) - math.Log(q)
			q = p
		}
		t.counts[int(node)*t.letters+letter]++
	}
	return math.Log(q)
}

// predict returns the probabilities of all letters after past. Below where the past leaves
// the tree nothing was counted, and every estimator says 1/letters.
func (t *tree) predict(past []int) []float64 {
	q := make([]float64, t.letters)
	for i := range q {
		q[i] = 1 / float64(t.letters)
	}
	for d, node := range slices.Backward(t.walk(nil, past, false)) {
		for i := range q {
			e := t.estimate(node, i)
			if d == t.depth {
				q[i] = e
			} else {
				q[i] = mixed(t.odds[node], e, q[i])
			}
		}
	}
	return q
}

// mixed is (β e + c)/(β + 1).
func mixed(logOdds, e, c float64) float64 {
	w := 1 / (1 + math.Exp(-logOdds))
	return w*e + (1-w)*c
}

// Context is a leaf of a context tree.
type Context struct {
	Past   []int     // the symbols before, the last one last; −1 is before the beginning
	Counts []float64 // of the symbols that followed
}

// Likeliest returns the leaves that occurred of the tree with the largest posterior
// probability, and the logarithm of that probability. Trees of bits, of which there are
// many, have none: nil.
func (f *Contexts) Likeliest() (leaves []Context, logPosterior float64) {
	if f.bits > 0 {
		return nil, math.Inf(-1)
	}
	t := f.trees[0]
	root := t.best(0, 0, math.Log(f.Options.Stop), math.Log1p(-f.Options.Stop))
	t.collect(root, 0, nil, &leaves)
	return leaves, root.best + f.Loss
}

// chosen is a node's place in the likeliest tree.
type chosen struct {
	best     float64 // max over trees below of log w P
	children []chosen
	at       int32
}

// best computes, from the counts, max( γ P_e, (1−γ) Π_c best(cs) ). Children that did not
// occur have P = 1, but the tree below them has its weight: the largest for γ ≥ ½ is a leaf.
func (t *tree) best(at int32, depth int, stop, split float64) chosen {
	a := t.counts[int(at)*t.letters:][:t.letters]
	alpha, n := float64(t.letters)*t.alpha, 0.0
	own := logGamma(alpha)
	for _, v := range a {
		own += logGamma(v+t.alpha) - logGamma(t.alpha)
		n += v
	}
	own -= logGamma(n + alpha)
	if depth == t.depth {
		return chosen{best: own, at: at}
	}
	below, empty := split, t.contexts+1
	var children []chosen
	for c := t.child[at]; c != 0; c = t.next[c] {
		children = append(children, t.best(c, depth+1, stop, split))
		below += children[len(children)-1].best
		empty--
	}
	below += float64(empty) * t.unseen(depth+1, stop, split)
	if stop+own >= below {
		return chosen{best: stop + own, at: at}
	}
	return chosen{best: below, children: children, at: at}
}

// unseen is the largest log weight of a tree below a context that did not occur.
func (t *tree) unseen(depth int, stop, split float64) float64 {
	best := 0.0
	for d := t.depth - 1; d >= depth; d-- {
		best = max(stop, split+float64(t.contexts+1)*best)
	}
	return best
}

// collect lists the leaves from the likeliest child on.
func (t *tree) collect(c chosen, depth int, past []int, out *[]Context) {
	if depth > 0 {
		symbol := int(t.symbol[c.at])
		if symbol == t.contexts {
			symbol = -1
		}
		past = append([]int{symbol}, past...)
	}
	if c.children == nil {
		*out = append(*out, Context{past, slices.Clone(t.counts[int(c.at)*t.letters:][:t.letters])})
		return
	}
	slices.SortFunc(c.children, func(a, b chosen) int { return int(t.symbol[a.at]) - int(t.symbol[b.at]) })
	for _, child := range c.children {
		t.collect(child, depth+1, past, out)
	}
}
