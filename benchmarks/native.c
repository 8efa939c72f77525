/*
 * The least that a receiver can do, without an interpreter: a thread for each association, which waits for what comes,
 * writes it to a file and answers with prepared bytes. Nothing is checked. With a third argument each object is on the
 * disk, under its name, before it is acknowledged. benchmarks.receivers compiles it, and writes prepared.h:
 * ACCEPT and RESPONSE, whole PDUs, and MESSAGE_ID, where in the second one the request's is to stand.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "prepared.h"

enum { ASSOCIATE_RQ = 1, P_DATA = 4, COMMAND = 1, LAST = 2, READ_SIZE = 1 << 18 };

static const unsigned char RELEASE_RP[] = {6, 0, 0, 0, 0, 4, 0, 0, 0, 0};
static const unsigned char MESSAGE_ID_ELEMENT[] = {0, 0, 0x10, 1, 2, 0, 0, 0};

static const char *directory;
static int parent; /* its descriptor */
static int isDurable;
static atomic_int names;

struct object {
	int file;
	unsigned char messageID[2];
	char working[PATH_MAX], final[PATH_MAX];
};

static int readAll(int peer, unsigned char *into, size_t length)
{
	while (length) {
		ssize_t got = recv(peer, into, length, 0);
		if (got <= 0)
			return 0;
		into += got;
		length -= got;
	}
	return 1;
}

static void check(int isDone, const char *what)
{
	if (!isDone) {
		perror(what);
		exit(1);
	}
}

static void begin(struct object *object, const unsigned char *command, size_t length)
{
	const unsigned char *element = memmem(command, length, MESSAGE_ID_ELEMENT, sizeof MESSAGE_ID_ELEMENT);
	int number = ++names;
	check(element != NULL, "no message ID");
	check(object->file < 0, "a command inside an object");
	memcpy(object->messageID, element + sizeof MESSAGE_ID_ELEMENT, 2);
	snprintf(object->working, PATH_MAX, "%s/.%d", directory, number);
	snprintf(object->final, PATH_MAX, "%s/%d", directory, number);
	object->file = open(object->working, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	check(object->file >= 0, "open");
}

static void finish(struct object *object, int peer)
{
	unsigned char response[sizeof RESPONSE];
	check(!isDurable || fsync(object->file) == 0, "fsync");
	check(close(object->file) == 0, "close");
	object->file = -1;
	check(rename(object->working, object->final) == 0, "rename");
	check(!isDurable || fsync(parent) == 0, "fsync of the directory");
	memcpy(response, RESPONSE, sizeof response);
	memcpy(response + MESSAGE_ID, object->messageID, 2);
	send(peer, response, sizeof response, MSG_NOSIGNAL);
}

/* Receive one PDU; 0 where it was the last. */
static int receive(int peer, unsigned char *buffer, struct object *object)
{
	unsigned char header[12];
	size_t length;

	if (!readAll(peer, header, 6))
		return 0;
	length = (size_t)header[2] << 24 | header[3] << 16 | header[4] << 8 | header[5];
	if (header[0] == ASSOCIATE_RQ) {
		return length <= READ_SIZE && readAll(peer, buffer, length) &&
		       send(peer, ACCEPT, sizeof ACCEPT, MSG_NOSIGNAL) == sizeof ACCEPT;
	}
	if (header[0] != P_DATA || length < 6 || !readAll(peer, header + 6, 6)) {
		send(peer, RELEASE_RP, sizeof RELEASE_RP, MSG_NOSIGNAL);
		return 0;
	}
	length -= 6; /* its one PDV's length, context and flags */
	if (header[11] & COMMAND) {
		if (length > READ_SIZE || !readAll(peer, buffer, length))
			return 0;
		begin(object, buffer, length);
		return 1;
	}
	while (length) {
		ssize_t got = recv(peer, buffer, length < READ_SIZE ? length : READ_SIZE, 0);
		if (got <= 0)
			return 0;
		check(write(object->file, buffer, got) == got, "write");
		length -= got;
	}
	if (header[11] & LAST)
		finish(object, peer);
	return 1;
}

static void *serve(void *argument)
{
	int peer = (int)(long)argument;
	unsigned char *buffer = malloc(READ_SIZE);
	struct object object = {.file = -1};

	check(buffer != NULL, "malloc");
	while (receive(peer, buffer, &object))
		;
	if (object.file >= 0)
		close(object.file);
	close(peer);
	free(buffer);
	return NULL;
}

int main(int count, char **arguments)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (count < 3) {
		fprintf(stderr, "native PORT DIRECTORY [durable]\n");
		return 2;
	}
	address.sin_port = htons(atoi(arguments[1]));
	directory = arguments[2];
	isDurable = count > 3;
	parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(parent >= 0, directory);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	check(bind(listener, (struct sockaddr *)&address, sizeof address) == 0, "bind");
	check(listen(listener, 128) == 0, "listen");
	for (;;) {
		pthread_t thread;
		int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		check(peer >= 0, "accept");
		setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		check(pthread_create(&thread, NULL, serve, (void *)(long)peer) == 0, "thread");
		pthread_detach(thread);
	}
}
