package campaign

import "slices"

// ddmin finds a smaller list with which a test still fails, by delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating
// Failure-Inducing Input", 2002). The list itself must fail. The result fails, too, and is 1-minimal: it does not
// fail without any one of its items. If failing is monotone, it is minimal. An error of the test ends the search; what was
// found until then comes with it.
func ddmin(items []int, fails func([]int) (bool, error)) ([]int, error) {
	if len(items) == 0 {
		return items, nil
	}
	// The case that saves all others.
	if ok, err := fails([]int{}); err != nil || ok {
		if ok {
			items = []int{}
		}
		return items, err
	}
	parts := 2
	for len(items) > 1 {
		smaller, foundPart, err := reduce(items, parts, fails)
		if err != nil {
			return items, err
		}
		switch {
		case smaller == nil && parts >= len(items):
			return items, nil
		case smaller == nil:
			parts = min(2*parts, len(items))
		case foundPart:
			items, parts = smaller, 2
		default:
			items, parts = smaller, max(parts-1, 2)
		}
	}
	return items, nil
}

// reduce cuts the list into parts and tries each part alone, then the list without each part. It returns nil if none fails.
func reduce(items []int, parts int, fails func([]int) (bool, error)) (smaller []int, foundPart bool, err error) {
	bound := func(i int) int { return i * len(items) / parts }
	for i := range parts {
		part := slices.Clone(items[bound(i):bound(i+1)])
		if ok, err := fails(part); err != nil || ok {
			return part, true, err
		}
	}
	if parts == 2 { // the rest of a half is the other half
		return nil, false, nil
	}
	for i := range parts {
		rest := slices.Concat(items[:bound(i)], items[bound(i+1):])
		if ok, err := fails(rest); err != nil || ok {
			return rest, false, err
		}
	}
	return nil, false, nil
}
