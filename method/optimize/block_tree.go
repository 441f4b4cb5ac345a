package optimize

// forest takes from coordinates, in their order, those with which the taken ones stay a
// forest in the graph of q's Hessian: a coordinate is let in unless two of its neighbours
// are already in one tree.
func forest(q Sparse, order []int) (taken, rest []int) {
	tree := map[int]int{} // union-find, of those taken
	root := func(i int) int {
		for tree[i] != i {
			tree[i] = tree[tree[i]]
			i = tree[i]
		}
		return i
	}
	var seen []int
	for _, i := range order {
		columns, _ := q.Row(i)
		seen = seen[:0]
		cycle := false
		for _, j := range columns {
			if _, in := tree[j]; !in || j == i {
				continue
			}
			r := root(j)
			for _, other := range seen {
				cycle = cycle || other == r
			}
			seen = append(seen, r)
		}
		if cycle {
			rest = append(rest, i)
			continue
		}
		tree[i] = i
		for _, r := range seen {
			tree[r] = i
		}
		taken = append(taken, i)
	}
	return taken, rest
}

// solveForest puts H_b⁻¹ g into d for a block on which H is a forest. From the leaves to
// the roots each coordinate v tells its parent u what it is worth eliminated,
//
//	J_u ← J_u − H_uv² / J_v      h_u ← h_u − H_uv h_v / J_v
//
// starting from J = diag H and h = g, and from the roots down d_v = (h_v − H_uv d_u) / J_v.
func solveForest(q Sparse, block []int, d, g []float64) {
	place := make(map[int]int, len(block))
	for p, i := range block {
		place[i] = p
	}
	b := len(block)
	parent, weight := make([]int, b), make([]float64, b) // by place; H_uv to the parent
	j, h := make([]float64, b), make([]float64, b)
	order := make([]int, 0, b) // parents before children
	found := make([]bool, b)
	copy(h, g)
	for start := range b {
		if found[start] {
			continue
		}
		found[start], parent[start] = true, -1
		at := len(order)
		for order = append(order, start); at < len(order); at++ {
			u := order[at]
			columns, entries := q.Row(block[u])
			for m, i := range columns {
				v, in := place[i]
				switch {
				case i == block[u]:
					j[u] = entries[m]
				case in && !found[v]:
					found[v], parent[v], weight[v] = true, u, entries[m]
					order = append(order, v)
				}
			}
		}
	}
	for at := b - 1; at >= 0; at-- {
		v := order[at]
		if u := parent[v]; u >= 0 {
			j[u] -= weight[v] * weight[v] / j[v]
			h[u] -= weight[v] * h[v] / j[v]
		}
	}
	for _, v := range order {
		d[v] = h[v]
		if u := parent[v]; u >= 0 {
			d[v] -= weight[v] * d[u]
		}
		d[v] /= j[v]
	}
}
