/* A team of threads that run the same function, each on its own part of the rows.
 *
 * The threads live as long as the call. So there is no state between calls that a fork could break,
 * and starting one takes about as long as a product of two 64 × 64 matrices. */
#ifndef DMF_TEAM_H
#define DMF_TEAM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* The largest number of looks at a counter before a waiting thread goes to sleep, about as long as
 * waking it up takes. */
#define MOST_LOOKS 2048

typedef struct {
    int64_t size;      /* the number of threads, the caller's included */
    atomic_int inside; /* the number of threads that wait at the meeting point */
    atomic_int round;  /* the number of meetings so far; the first one starts the work */
    pthread_mutex_t lock;
    pthread_cond_t next_round;
} team;

/* One thread of a team. */
typedef struct member {
    team *all;
    int64_t index;
    int looks; /* the number of looks before it sleeps */
    void (*work)(void *data, struct member *self);
    void *data;
} member;

/* Wait until the round is over. On a busy machine the others may not run meanwhile. A thread that sleeps
 * leaves its processor to them, and one that had to sleep looks less often the next time. */
static void wait_for_end(member *self, int round)
{
    team *all = self->all;
    for (int looks = 0; looks < self->looks; looks++) {
        if (atomic_load_explicit(&all->round, memory_order_acquire) != round) {
            self->looks = self->looks < MOST_LOOKS ? 2 * self->looks : MOST_LOOKS;
            return;
        }
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#endif
    }
    self->looks = self->looks > 1 ? self->looks / 4 + 1 : 1;
    pthread_mutex_lock(&all->lock);
    while (atomic_load_explicit(&all->round, memory_order_acquire) == round)
        pthread_cond_wait(&all->next_round, &all->lock);
    pthread_mutex_unlock(&all->lock);
}

static void end_round(team *all)
{
    pthread_mutex_lock(&all->lock);
    atomic_fetch_add_explicit(&all->round, 1, memory_order_release);
    pthread_cond_broadcast(&all->next_round);
    pthread_mutex_unlock(&all->lock);
}

/* Wait until all threads of the team are here; what each has written is then seen by all. */
static void meet(member *self)
{
    team *all = self->all;
    if (all->size == 1)
        return;
    const int round = atomic_load_explicit(&all->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&all->inside, 1, memory_order_acq_rel) + 1 == all->size) {
        atomic_store_explicit(&all->inside, 0, memory_order_relaxed);
        end_round(all);
    } else
        wait_for_end(self, round);
}

static void *member_main(void *argument)
{
    member *self = argument;
    wait_for_end(self, 0);
    self->work(self->data, self);
    return 0;
}

/* Call ``work(data, self)`` on up to ``threads`` threads at once, or on as many as there are. */
static void run_team(int64_t threads, void (*work)(void *data, member *self), void *data)
{
    team all = {
        .size = 1, .lock = PTHREAD_MUTEX_INITIALIZER, .next_round = PTHREAD_COND_INITIALIZER
    };
    member caller = {&all, 0, MOST_LOOKS, work, data};
    pthread_t *started = threads > 1 ? malloc((threads - 1) * sizeof(pthread_t)) : 0;
    member *members = threads > 1 ? malloc((threads - 1) * sizeof(member)) : 0;
    if (started && members)
        for (int64_t k = 1; k < threads; k++) {
            members[k - 1] = (member){&all, k, MOST_LOOKS, work, data};
            if (pthread_create(&started[k - 1], 0, member_main, &members[k - 1]))
                break;
            all.size = k + 1;
        }
    end_round(&all);
    work(data, &caller);
    for (int64_t k = 1; k < all.size; k++)
        pthread_join(started[k - 1], 0);
    free(members);
    free(started);
}

#endif
