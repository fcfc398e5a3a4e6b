package projections

// entry is the place of a T in a queue.
type entry[T any] struct {
	of     *T
	at     int64  // what the queue is ordered by
	number uint32 // and where that is equal: the same log gives the same order
	place  int32
}

// queue is a heap of entries, the one with the least at in front.
type queue[T any] []*entry[T]

func (q queue[T]) Len() int { return len(q) }
func (q queue[T]) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].number < q[j].number
}
func (q queue[T]) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = int32(i), int32(j)
}

// Push implements heap.Interface.
func (q *queue[T]) Push(x any) {
	e := x.(*entry[T])
	e.place = int32(len(*q))
	*q = append(*q, e)
}

// Pop implements heap.Interface.
func (q *queue[T]) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}
